"""Pictures of the rows, small enough for the page. Needs Pillow."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cosmeans.calls import Lock
from cosmeans.errors import FileError
from cosmeans.reading import open_regular, reading, require_memory, size_words

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# read by Pillow itself, not by a program that it starts (Ghostscript for EPS)
_FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP")
_MOST_PIXELS = 1 << 26  # of what is decoded: a large JPEG is decoded at a fraction of its size
_FEW_PIXELS = 1 << 22  # pictures of up to so many are decoded in parallel
_BYTES = 8  # of a pixel: as it is decoded, and turned with transparency
_one_large = Lock()


def thumbnails(paths: Sequence[str], side: int) -> list[str | FileError]:
    """Each picture as a small data URI whose longer side has `side` pixels, or why it can't be read as one."""

    def attempt(path: str) -> str | FileError:
        try:
            return _thumbnail(Path(path), side)
        except FileError as error:
            return error

    from PIL import Image

    Image.init()
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked below
        return list(pool.map(attempt, paths))


def _thumbnail(path: Path, side: int) -> str:
    from PIL import Image

    formats = [name for name in _FORMATS if name in Image.OPEN]
    with open_regular(path) as file, reading(path, says="can't be read as a picture"):
        with Image.open(file, formats=formats) as image:
            image.draft("RGB", (2 * side, 2 * side))
            width, height = image.size
            if width * height > _MOST_PIXELS:
                size = size_words(_BYTES * width * height)
                raise FileError(f"{path} has {width:,} x {height:,} pixels, {size} unpacked. Make it smaller.")
            require_memory(path, _BYTES * width * height, "unpacks to")
            if width * height > _FEW_PIXELS:
                with _one_large:
                    small = _small(image, side)
            else:
                small = _small(image, side)
        buffer = io.BytesIO()
        opaque = small.getchannel("A").getextrema() == (255, 255)
        (small.convert("RGB") if opaque else small).save(buffer, "WEBP", quality=60)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _small(image: Picture, side: int) -> Picture:
    from PIL import ImageOps

    small = ImageOps.exif_transpose(image).convert("RGBA")
    small.thumbnail((side, side))
    return small
