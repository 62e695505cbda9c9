"""The page: right numbers, harmless texts, small, the same every time; used in a real browser by keyboard."""

import inspect
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest

from clusters_page import data_of
from cosmeans import KMeans
from cosmeans.errors import InputError, OptionError, OutputExistsError
from cosmeans.page.projection import N_STYLES, styles
from cosmeans.page.write import write_page
from cosmeans.report import write_report

HOSTILE = '</script><script>document.title="hacked"</script><img src=x onerror="document.title=1"> \ud800 &amp;'


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    rows = (np.eye(4, 16)[rng.integers(0, 4, 400)] + 0.2 * rng.standard_normal((400, 16))).astype(np.float32)
    rows[17] = 0
    texts = [
        f"{['apple', 'banana', 'cherry', 'damson'][int(row[:4].argmax())]} number {i}" for i, row in enumerate(rows)
    ]
    texts[5] = HOSTILE
    return KMeans(4, epochs=20, random_state=1, verbose=0, zero_rows="skip").fit(rows), rows, texts


@pytest.fixture(scope="module")
def page(fitted, tmp_path_factory):
    kmeans, rows, texts = fitted
    return kmeans.report(rows, tmp_path_factory.mktemp("report") / "page.html", texts=texts, n_examples=50)


def test_sizes_similarities_and_examples_are_those_of_a_float64_brute_force(fitted, page):
    kmeans, rows, _ = fitted
    data = data_of(page)
    kept = np.linalg.norm(rows, axis=1) > 0
    unit = rows.astype(float) / np.where(kept, np.linalg.norm(rows.astype(float), axis=1), 1)[:, None]
    cosines = unit @ np.asarray(kmeans.cluster_centers_, float).T
    labels = np.where(kept, cosines.argmax(1), -1)
    for place, cluster in enumerate(data["clusters"]["id"]):
        own = cosines[labels == cluster, cluster]
        assert data["clusters"]["size"][place] == len(own)
        assert data["clusters"]["mean"][place] == pytest.approx(own.mean(), abs=6e-5)
        assert data["clusters"]["spread"][place] == pytest.approx(own.std(), abs=6e-5)
        assert data["clusters"]["quantiles"][place] == pytest.approx(
            np.quantile(own, (0.05, 0.25, 0.5, 0.75, 0.95)), abs=6e-5
        )
        shown = [data["examples"]["similarity"][row] for row in data["clusters"]["best"][place]]
        assert shown == pytest.approx(np.sort(own)[::-1][:50], abs=6e-5)
        shown = [data["examples"]["similarity"][row] for row in data["clusters"]["worst"][place]]
        assert shown == pytest.approx(np.sort(own)[: len(shown)], abs=6e-5)


def test_distinctive_words_name_the_clusters(page):
    firsts = {words[0] for words in data_of(page)["clusters"]["words"]}
    assert firsts == {"apple", "banana", "cherry", "damson"}


def test_rows_left_out_are_told(page):
    text = page.read_text("utf-8")
    assert "1 row left out" in text
    assert "the first is row 17" in text


def test_texts_can_not_end_the_script(page):
    text = page.read_text("utf-8")
    assert "<img src=x" not in text
    assert text.count("</script>") == 2


def test_the_page_loads_nothing_and_is_the_same_every_time(fitted, page, tmp_path):
    kmeans, rows, texts = fitted
    again = write_report(kmeans, rows, tmp_path / "again.html", texts=texts, n_examples=50)
    assert again.read_bytes() == page.read_bytes()
    assert not re.search(r'(src|href)="(https?:)?//', page.read_text("utf-8"))


def test_a_model_and_the_function_take_the_same_options():
    """So does the page's own; each is spelled out, so that editors and help name them."""
    options = [list(inspect.signature(f).parameters.values())[3:] for f in (KMeans.report, write_report, write_page)]

    assert options[0] == options[1] == options[2]
    assert len(options[0]) >= 7


def test_mistakes_are_told_before_any_work(fitted, tmp_path):
    kmeans, rows, texts = fitted
    path = tmp_path / "page.html"
    with pytest.raises(InputError, match="texts has 3 entries, the rows are 400"):
        write_report(kmeans, rows, path, texts=texts[:3])
    with pytest.raises(OptionError, match="projection must be one of"):
        write_report(kmeans, rows, path, projection="tsne")
    with pytest.raises(OptionError, match="n_examples must be an integer from 1 to 50"):
        write_report(kmeans, rows, path, n_examples=0)
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="already exists"):
        write_report(kmeans, rows, path)
    assert path.read_text() == "mine"


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium with chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update",
                 "disable-sync", "no-first-run", f"user-data-dir={tmp_path / 'user'}"):  # fmt: skip
        options.add_argument(f"--{flag}")
    running = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield running
    running.quit()


def test_a_reader_sorts_searches_and_opens_a_cluster_by_keyboard(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()

    def lines():
        return browser.find_elements("css selector", "#table tbody tr")

    data = data_of(page)["clusters"]
    browser.get(page.as_uri())
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


def emulate(browser, width, scheme):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_its_window_and_what_it_says_stands_out_from_its_ground(browser, page, width, scheme):
    emulate(browser, width, scheme)
    browser.get(page.as_uri())

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


def test_clusters_beside_one_another_differ_in_colour_and_in_shape():
    found = styles(np.arange(N_STYLES, 0, -1), np.zeros((N_STYLES, 0), int))
    assert len({(style % 8, style % 3) for style in found.tolist()}) == N_STYLES
    assert all(a % 8 != b % 8 and a % 3 != b % 3 for a, b in pairwise(found.tolist()))
