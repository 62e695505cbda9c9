"""Thumbnails, the bound on the page's size, and the map by another projection."""

import base64
import io
import json
import os
import re
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from PIL import Image

from cosmeans import KMeans
from cosmeans.cli import run
from cosmeans.errors import FileError, OptionError
from cosmeans.page.thumbnails import thumbnails
from cosmeans.report import write_report


def data_of(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.S).group(1))


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    rows = (np.eye(3, 8)[np.arange(90) % 3] + 0.3 * rng.standard_normal((90, 8))).astype(np.float32)
    return KMeans(3, random_state=0, verbose=0).fit(rows), rows


def test_pictures_become_small_ones_of_the_same_colour(fitted, tmp_path):
    kmeans, rows = fitted
    paths = [tmp_path / f"{i}.{('png', 'jpg')[i % 2]}" for i in range(90)]
    for i, path in enumerate(paths):
        Image.new("RGB", (400, 200), (2 * i, 0, 255 - 2 * i)).save(path)
    paths[int(np.argmax(kmeans.similarity_))].write_bytes(b"no picture")

    examples = data_of(write_report(kmeans, rows, tmp_path / "page.html", images=paths))["examples"]

    for row, uri in zip(examples["row"], examples["picture"], strict=True):
        if row == int(np.argmax(kmeans.similarity_)):
            assert uri is None
            continue
        image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))).convert("RGB")
        assert image.size == (96, 48)
        assert image.getpixel((48, 24)) == pytest.approx((2 * row, 0, 255 - 2 * row), abs=8)
    assert examples["text"][0] == paths[examples["row"][0]].name
    assert "could not be read" in (tmp_path / "page.html").read_text("utf-8")


def test_a_thousand_clusters_with_long_texts_stay_below_ten_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((26_000, 16), np.float32)
    words = rng.integers(0, 500, (26_000, 40))
    texts = [" ".join(f"wörd{word}" for word in line) for line in words.tolist()]
    kmeans = KMeans(1000, epochs=1, random_state=0, verbose=0).fit(rows)

    page = write_report(kmeans, rows, tmp_path / "page.html", texts=texts, n_examples=50, sample=10_000)

    assert page.stat().st_size < 10_000_000
    listed = data_of(page)["clusters"]
    assert len(listed["id"]) == 1000
    assert all(best for best, size in zip(listed["best"], listed["size"], strict=True) if size)
    assert len(listed["best"][0]) < 50, "the bound was not tested: everything fitted"


def test_the_map_is_made_by_umap_where_it_is_installed(fitted, tmp_path, monkeypatch):
    kmeans, rows = fitted
    asked = {}

    class UMAP:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, units):
            assert np.linalg.norm(units, axis=1) == pytest.approx(1.0)
            return np.stack([np.arange(len(units)), np.zeros(len(units))], axis=1)

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    page = write_report(kmeans, rows, tmp_path / "page.html", projection="umap")

    assert (asked["metric"], asked["random_state"]) == ("cosine", kmeans.random_state_ % 2**32)
    assert data_of(page)["map"]["x"] == np.rint(np.arange(90) * 2000 / 89).tolist()
    assert "90 of the rows on a plane that keeps neighbours together (UMAP)" in page.read_text("utf-8")


def test_umap_is_asked_for_before_the_work(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(OptionError, match="pip install umap-learn"):
        write_report(*fitted, tmp_path / "page.html", projection="umap")


def test_the_command_writes_the_page_that_python_writes(fitted, tmp_path, monkeypatch, capsys):
    kmeans, rows = fitted
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", rows)
    kmeans.save("model")
    (tmp_path / "texts.csv").write_text("id,title\n" + "".join(f"{i},row number {i}\n" for i in range(90)))

    line = "report model rows.npy --texts texts.csv --column title --title Mine --examples 2 --sample 50 --json"
    assert run(line.split()) == 0

    told = json.loads(capsys.readouterr().out)
    texts = [f"row number {i}" for i in range(90)]
    expected = write_report("model", rows, "python.html", texts=texts, title="Mine", n_examples=2, sample=50)
    assert (tmp_path / "report.html").read_bytes() == expected.read_bytes()
    assert told == {"report": "report.html", "rows": 90, "bytes": expected.stat().st_size}
    assert run(line.split()) == 2
    assert "report.html already exists" in capsys.readouterr().err
    assert run([*line.split()[:3], "--sample", "-1", "--out", "new.html"]) == 2
    assert "sample must be an integer from 0 to 10,000" in capsys.readouterr().err


def png(width, height):
    """A picture of one colour, which packs to a few kilobytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    line = packer.compress(bytes(1 + 3 * width)) + b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(9))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", line + packer.flush()) + chunk(b"IEND", b"")


def test_a_picture_is_not_decoded_beyond_a_size_and_the_page_says_how_large_it_is(fitted, tmp_path):
    kmeans, rows = fitted
    (tmp_path / "huge.png").write_bytes(png(13_000, 13_000))

    page = write_report(kmeans, rows, tmp_path / "page.html", images=[tmp_path / "huge.png"] * 90)

    assert "huge.png has 13,000 x 13,000 pixels, 1.4 GB unpacked" in page.read_text("utf-8")


@pytest.mark.linux
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing", "eps", "truncated", "text", "empty"])
def test_what_is_no_picture_is_told_and_nothing_is_waited_for(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "eps":  # Pillow would start Ghostscript
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
        case "truncated":
            path.write_bytes(png(30, 30)[:45])
        case "text" | "empty":
            path.write_text("" if kind == "empty" else "words")

    (found,) = thumbnails([str(path)], 64)

    assert isinstance(found, FileError)
    assert path.name in str(found)
