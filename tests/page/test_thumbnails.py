"""Thumbnails: small pictures of the same colour, and what is no picture, or too large a one, is told."""

import base64
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clusters_page import data_of, three_groups
from cosmeans.errors import FileError
from cosmeans.page.thumbnails import thumbnails
from cosmeans.report import write_report


@pytest.fixture(scope="module")
def fitted():
    return three_groups()


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
