"""Pages in a real browser: by keyboard, in windows of any width, in both schemes; what a reader takes along."""

import csv
import json
import re
import time

import numpy as np
import pytest

from browsing import emulate, show
from clusters_page import data_of, rows_of
from cosmeans import KMeans
from cosmeans.report import write_report

FRUITS = ["apple", "banana", "cherry", "damson"]
ANIMALS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "kiwi", "lynx", "mole", "newt", "owl"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Four clusters, 400 rows."""
    rng = np.random.default_rng(0)
    rows = (np.eye(4, 16)[rng.integers(0, 4, 400)] + 0.2 * rng.standard_normal((400, 16))).astype(np.float32)
    texts = [f"{FRUITS[int(row[:4].argmax())]} number {i}" for i, row in enumerate(rows)]
    kmeans = KMeans(4, epochs=20, random_state=1, verbose=0).fit(rows)
    return kmeans.report(rows, tmp_path_factory.mktemp("report") / "page.html", texts=texts, n_examples=50)


@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    """Fifteen clusters in topics, 600 rows with ids, links and a column."""
    rng = np.random.default_rng(0)
    kind = np.arange(600) % 15
    rows = (np.eye(15, 32)[kind] + 0.1 * rng.standard_normal((600, 32))).astype(np.float32)
    kmeans = KMeans(15, random_state=0, init=np.eye(15, 32), verbose=0).fit(rows)
    columns = {"source": ["web" if i % 15 < 3 else "book" for i in range(600)]}
    links = ["javascript:alert(1)" if i % 2 else f"https://example.org/{i}" for i in range(600)]
    texts = [f"{ANIMALS[k]}s" + (" catalogue" if k == 4 else "") for k in kind]
    path = tmp_path_factory.mktemp("chapters") / "page.html"
    return kmeans.report(
        rows, path, texts=texts, ids=[f"=id{i}" for i in range(600)], links=links, columns=columns, names={0: "Ants!"}
    )


def test_a_reader_sorts_searches_and_opens_a_cluster_by_keyboard(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()

    def lines():
        return browser.find_elements("css selector", "#table tbody tr")

    data = data_of(page)["clusters"]
    show(browser, page)
    assert browser.title == "Clusters"
    press("/", "banana")
    assert [line.text for line in lines() if "banana" in line.text]
    press(*[Keys.BACKSPACE] * len("banana"))
    browser.find_element("css selector", "[data-sort=id]").send_keys(Keys.ENTER)
    assert [line.find_element("tag name", "th").text for line in lines()] == sorted(map(str, data["id"]))
    lines()[0].find_element("tag name", "button").send_keys(Keys.ENTER)
    dialog = browser.find_element("id", "cluster")
    assert "Cluster 0" in dialog.text
    press(Keys.ARROW_RIGHT)
    assert "Cluster 1" in dialog.text
    press(Keys.ESCAPE)
    assert not dialog.is_displayed()
    browser.find_element("id", "plane").send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    assert dialog.is_displayed()
    assert browser.title == "Clusters"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_window_and_what_it_says_stands_out_from_its_ground(browser, page, width, scheme):
    emulate(browser, width, scheme)
    show(browser, page)

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.find_element("css selector", "#table tbody button").click()
    assert browser.execute_script("return document.getElementById('cluster').scrollWidth") <= width

    def luminance(name):
        script = "return getComputedStyle(document.querySelector(`#swatches .${arguments[0]}`)).color"
        parts = [int(part) / 255 for part in re.findall(r"\d+", browser.execute_script(script, name))[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground = luminance("paper")
    contrast = {
        name: (max(luminance(name), ground) + 0.05) / (min(luminance(name), ground) + 0.05)
        for name in ["ink", *(f"c{i}" for i in range(8)), *(f"r{i}" for i in range(5))]
    }
    assert contrast["ink"] > 7
    assert min(contrast.values()) > 2, contrast
    steps = [luminance(f"r{i}") for i in range(5)]
    assert steps == sorted(steps), "low to high similarity is dark to light, for eyes that see no colours too"


def test_every_column_sorts_both_ways(browser, page):
    data = data_of(page)["clusters"]
    emulate(browser, 1280, "light")
    browser.get(page.as_uri())

    def order():
        return [int(cell.text) for cell in browser.find_elements("css selector", "#table tbody th")]

    values = {name: data[name] for name in ("id", "size", "mean", "spread")} | {
        "near": [cosines[0] for cosines in data["cosine"]]
    }
    for name, column in values.items():
        button = browser.find_element("css selector", f"[data-sort={name}]")
        for _ in range(2):
            button.click()
            way = button.find_element("xpath", "..").get_attribute("aria-sort")
            sign = -1 if way == "descending" else 1
            ranked = sorted(zip(column, data["id"], strict=True), key=lambda pair: (sign * pair[0], pair[1]))
            assert order() == [cluster for _, cluster in ranked], (name, way)


def test_paper_gets_the_light_colours_whatever_the_screen_has(browser, page):
    browser.get(page.as_uri())
    browser.find_element("id", "theme").click()
    scheme = "return document.documentElement.style.colorScheme"
    assert browser.execute_script(scheme) == "dark"
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert browser.execute_script(scheme) == "light"
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert browser.execute_script(scheme) == "dark"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Forty clusters without gaps between them."""
    rows = np.random.default_rng(0).standard_normal((1200, 4)).astype(np.float32)
    kmeans = KMeans(40, epochs=5, random_state=0, verbose=0).fit(rows)
    texts = [f"beginning{label} middle{label}" for label in kmeans.labels_]
    return kmeans.report(rows, tmp_path_factory.mktemp("crowded") / "page.html", texts=texts)


def lines(browser):
    return [line.text for line in browser.find_elements("css selector", "#table tbody tr:not(.chapter)")]


def search(browser, text):
    field = browser.find_element("id", "search")
    field.clear()
    field.send_keys(text)


def saved(folder, name):
    """What the browser saved under this name."""
    for _ in range(100):
        if (folder / name).exists():
            return (folder / name).read_text("utf-8")
        time.sleep(0.05)
    raise AssertionError(f"{name} was not saved")


def test_the_clusters_come_first_and_the_fit_last(browser, page):
    show(browser, page)
    heads = [head.text for head in browser.find_elements("css selector", "main h2")]
    assert [head for head in heads if head not in ("Worth a look", "Rows that fit no cluster well")] == [
        "Clusters", "Map", "Sizes and fit", "How the fit went"]  # fmt: skip
    assert "Time per epoch" not in browser.page_source


def test_search_finds_words_that_are_shown_and_marks_them(browser, chapters):
    show(browser, chapters)
    search(browser, "cat")
    marks = [mark.text for mark in browser.find_elements("css selector", "#table mark")]
    assert len(lines(browser)) == 1, "catalogue is another word"
    assert set(marks) <= {"cat", "cats"}
    assert marks
    search(browser, "catal")
    assert len(lines(browser)) == 1, "the beginning of a word, where no whole word is found"
    assert {mark.text for mark in browser.find_elements("css selector", "#table mark")} == {"catalogue"}
    search(browser, "number")
    assert "No cluster fits" in browser.find_element("id", "table").text


def test_the_table_has_chapters_and_becomes_one_list(browser, chapters):
    data = data_of(chapters)
    show(browser, chapters)
    heads = browser.find_elements("css selector", "#table .chapter button")
    assert len(heads) == len(data["topics"]["name"]) == len({*data["clusters"]["topic"]})
    before = len(lines(browser))
    heads[0].click()
    topic = int(browser.find_element("css selector", "#table .chapter button").get_attribute("data-topic"))
    assert before == 15
    assert len(lines(browser)) == 15 - data["clusters"]["topic"].count(topic)
    browser.find_element("css selector", "[data-sort=size]").click()
    assert browser.find_elements("css selector", "#table .chapter") == []
    assert len(lines(browser)) == 15


def test_arrows_lead_from_the_search_through_the_table_with_one_stop_per_row(browser, chapters):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    emulate(browser, 1280, "light")  # wide enough for the column with a button of its own
    show(browser, chapters)
    focus = "return document.activeElement.closest('tr')?.sectionRowIndex ?? -1"
    ActionChains(browser).send_keys("/", "book", *[Keys.BACKSPACE] * 4, Keys.ARROW_DOWN).perform()
    assert browser.execute_script(focus) == 0
    ActionChains(browser).send_keys(Keys.ARROW_DOWN).perform()
    assert browser.execute_script(focus) == 1
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.execute_script(focus) == 2
    ActionChains(browser).send_keys(Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP).perform()
    assert browser.execute_script("return document.activeElement.id") == "search"


def test_a_filter_counts_its_rows_only(browser, chapters):
    show(browser, chapters)
    browser.execute_script(
        "const filter = document.getElementById('filter');"
        "filter.value = [...filter.options].find((option) => option.text === 'web').value; filter.onchange();"
    )
    assert browser.find_element("id", "count").text == "3 of 15 clusters"
    assert all(line.split("\n")[2].startswith("40 of 40") or "40 of 40" in line for line in lines(browser))


def test_all_rows_of_a_cluster_are_listed_closest_first_and_saved(browser, chapters, tmp_path):
    emulate(browser, 1280, "light")
    show(browser, chapters)
    stored = rows_of(chapters)
    browser.execute_script("location.hash = 'cluster-0'")
    show_all, save_csv = browser.find_elements("css selector", "#cluster-body .bar button")
    assert show_all.text == "Show all 40"
    show_all.click()
    listed = browser.find_elements("css selector", "#cluster-body ol.rows")[-1].find_elements("tag name", "li")
    similarity = [float(item.text.split("\n")[0]) for item in listed]
    assert len(listed) == 40
    assert similarity == sorted(similarity, reverse=True)
    addresses = {link.get_attribute("href") for link in browser.find_elements("css selector", "#cluster-body a")}
    assert addresses
    assert all(address.startswith("https://example.org/") for address in addresses), "no other kind of address"

    save_csv.click()
    table = list(csv.DictReader(saved(tmp_path, "cluster-0.csv").splitlines()))
    own = [at for at, cluster in enumerate(stored["cluster"]) if cluster == 0]
    assert sorted(int(line["row"]) for line in table) == [stored["row"][at] for at in own]
    assert {line["name"] for line in table} == {"Ants!"}
    assert all(line["id"] == f"'=id{line['row']}" for line in table), "no formula for a spreadsheet"


def test_the_table_is_saved_as_it_is_shown(browser, chapters, tmp_path):
    show(browser, chapters)
    search(browser, "fox")
    browser.find_element("id", "save-table").click()
    table = list(csv.DictReader(saved(tmp_path, "clusters.csv").splitlines()))
    assert [(line["cluster"], line["rows"], line["words"]) for line in table] == [("5", "40", "foxs")]


def test_names_are_edited_shown_and_saved(browser, chapters, tmp_path):
    from selenium.webdriver.common.keys import Keys

    show(browser, chapters)
    browser.execute_script("location.hash = 'cluster-2'")
    browser.find_element("css selector", "#cluster-name button").click()
    browser.find_element("css selector", "#cluster-name input").send_keys("Cats, all of them", Keys.ENTER)
    assert browser.find_element("id", "cluster-name").text.startswith("Cats, all of them")
    browser.find_element("id", "close").click()
    assert any("Cats, all of them" in line for line in lines(browser))
    browser.find_element("id", "save-names").click()
    assert json.loads(saved(tmp_path, "names.json")) == {"0": "Ants!", "2": "Cats, all of them"}


# the part of the canvas that is not of the colour of the ground, as "x y" of its middle, and how much it is
INK = """
const canvas = document.getElementById("plane");
const { width, height } = canvas;
const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
let [ink, x, y] = [0, 0, 0];
for (let at = 0; at < width * height; at += 1) {
  if (pixels[4 * at + 3] > 60) { ink += 1; x += at % width; y += Math.floor(at / width); }
}
return [ink, x / ink, y / ink];
"""


def painted(browser):
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    return browser.execute_script(INK)


def test_the_map_zooms_and_moves_by_wheel_drag_buttons_and_keys(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    emulate(browser, 1280, "light")
    show(browser, page)
    canvas = browser.find_element("id", "plane")
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", canvas)
    enabled = lambda: browser.find_element("id", "zoom-out").is_enabled()  # noqa: E731
    whole = painted(browser)
    assert whole[0] > 500

    ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, -100).perform()
    near = painted(browser)
    assert enabled()
    assert near[0]
    assert near != whole
    browser.execute_script(SPY)
    canvas.send_keys("+", "0", "+")
    near = painted(browser)
    x, y = browser.execute_script("return window.stamped.at(-1)")
    middle_x, middle_y = canvas.size["width"] / 2, canvas.size["height"] / 2
    to_point = ActionChains(browser).move_to_element_with_offset(canvas, round(x - middle_x), round(y - middle_y))
    to_point.click_and_hold().move_by_offset(-60, 0).release().perform()
    assert painted(browser) != near
    dialog = browser.find_element("id", "cluster")
    assert not dialog.is_displayed(), "a drag opens nothing"
    ActionChains(browser).click().perform()
    assert dialog.is_displayed()
    browser.find_element("id", "close").click()
    browser.find_element("id", "zoom-all").click()
    assert not enabled()
    canvas.send_keys("+")
    assert enabled()
    canvas.send_keys("0")
    assert not enabled()
    browser.find_element("id", "zoom-in").click()
    assert enabled()


def test_the_wheel_scrolls_the_page_where_the_map_is_whole(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    show(browser, page)
    canvas = browser.find_element("id", "plane")
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", canvas)
    before = browser.execute_script("return scrollY")
    ActionChains(browser).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, 200).perform()
    time.sleep(0.3)
    assert browser.execute_script("return scrollY") > before


# every text that is written on the map, as [text, x, y, half of its width]
SPY = """
window.written = [];
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  window.written.push([text, x, y, this.measureText(text).width / 2]);
  return write.call(this, text, x, y);
};
const stamp = CanvasRenderingContext2D.prototype.drawImage;
window.stamped = [];
CanvasRenderingContext2D.prototype.drawImage = function (picture, x, y, w, h) {
  window.stamped.push([x + w / 2, y + h / 2]);
  return stamp.call(this, picture, x, y, w, h);
};
"""


def test_names_on_the_map_cover_neither_their_points_nor_each_other(browser, crowded):
    emulate(browser, 1280, "light")
    show(browser, crowded)
    browser.execute_script(SPY)
    browser.find_element("id", "plane").send_keys("+", "0")
    painted(browser)
    written, stamped = browser.execute_script("return [window.written, window.stamped]")

    assert len(written) > 15
    names = {text: (x, y, half) for text, x, y, half in written}
    boxes = [*names.values()]
    for at, (x, y, half) in enumerate(boxes):
        for u, v, other in boxes[:at]:
            assert abs(x - u) >= half + other or abs(y - v) >= 12, "names cover each other"
    points = np.array(stamped)[-1200:]
    stored = rows_of(crowded)
    clusters = np.array(stored["cluster"])[stored["map"]["at"]]
    data = data_of(crowded)["clusters"]
    for name, (x, y, half) in names.items():
        own = [c for c, words, given in zip(data["id"], data["words"], data["name"], strict=True)
               if (given or ", ".join(words[:2])) == name]  # fmt: skip
        inside = points[np.isin(clusters, own)]
        assert not ((abs(inside[:, 0] - x) < half) & (abs(inside[:, 1] - y) < 6)).any(), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_a_topic_stands_out_from_its_ground(browser, page, scheme):
    """Forty topics have as many hues."""
    emulate(browser, 1280, scheme)
    show(browser, page)
    contrast = browser.execute_script(
        """
        const context = new OffscreenCanvas(1, 1).getContext("2d");
        const luminance = (colour) => {
          context.fillStyle = colour;
          context.fillRect(0, 0, 1, 1);
          const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = luminance(getComputedStyle(document.querySelector("#swatches .paper")).color);
        const node = document.getElementById("topic-swatches").appendChild(document.createElement("i"));
        node.className = "hue";
        return [...Array(120).keys()].map((at) => {
          node.style.setProperty("--h", 9 * (at % 40));
          node.style.setProperty("--lift", [0, 0.09, -0.09][Math.floor(at / 40)]);
          const own = luminance(getComputedStyle(node).color);
          return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
        });
        """
    )
    assert min(contrast) > 2, min(contrast)


HOSTILE = '</script><script>document.title="hacked"</script><img src=x onerror="document.title=1"> \ud800 &amp;'


def test_no_text_becomes_script_wherever_it_comes_from(browser, tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    kmeans, other = (KMeans(k, random_state=0, verbose=0).fit(rows) for k in (3, 4))
    folder = tmp_path / "<img src=x onerror=document.title=1>"
    other.save(folder)
    page = write_report(
        kmeans, rows, tmp_path / "page.html", texts=[f"{HOSTILE} w{label}" for label in kmeans.labels_],
        ids=[HOSTILE] * 60, links=["javascript:document.title='hacked'"] * 60, columns={HOSTILE: [HOSTILE, "b"] * 30},
        names={0: HOSTILE}, compare=folder,
    )  # fmt: skip
    show(browser, page)
    for cluster in range(3):
        browser.execute_script(f"location.hash = 'cluster-{cluster}'")
        browser.find_element("css selector", "#cluster-body .bar button").click()
    browser.find_element("id", "close").click()
    browser.find_element("id", "plane").send_keys(*["\ue014"] * 2)  # to the right: what is said of a point
    assert browser.title == "Clusters"
    assert browser.find_elements("css selector", "img, #cluster-body a") == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert page.read_text("utf-8").count("</script>") == 3


def test_a_page_without_a_map_texts_or_filters_works(browser, tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    kmeans = KMeans(3, random_state=0, verbose=0).fit(rows)
    show(browser, kmeans.report(rows, tmp_path / "page.html", sample=0))

    assert browser.find_elements("id", "plane") == []
    assert not browser.find_element("id", "chapters").is_displayed(), "three clusters need no topics"
    assert not browser.find_element("id", "filter").is_displayed()
    closest = browser.find_element("css selector", "#table tbody td").text
    place = data_of(tmp_path / "page.html")["clusters"]
    examples = data_of(tmp_path / "page.html")["examples"]["row"]
    assert closest == "rows " + ", ".join(str(examples[at]) for at in place["best"][0][:3])
    browser.find_element("css selector", "#table tbody button").click()
    browser.find_element("css selector", "#cluster-body .bar button").click()
    assert browser.find_element("id", "cluster").is_displayed()
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_colours_of_similarity_span_all_but_a_tenth_of_the_rows(browser, page):
    show(browser, page)
    browser.find_element("css selector", "[data-colour=similarity]").click()
    stored = rows_of(page)
    similarity = np.array(stored["similarity"])[stored["map"]["at"]] / 1e4
    expected = np.quantile(similarity, (0.05, 0.95))
    shown = [float(browser.find_element("id", f"scale-{end}").text) for end in ("low", "high")]
    assert shown == pytest.approx(expected, abs=0.01)
