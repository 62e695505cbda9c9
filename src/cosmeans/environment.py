"""Environment variables that stand in for options which are not given."""

from __future__ import annotations

import os
import re
from typing import Any

from cosmeans.errors import OptionError

DEVICE, CACHE = "COSMEANS_DEVICE", "COSMEANS_CACHE"
OFF = "off"  # no copy, on the command line


def device() -> str | None:
    """The device that takes the place of "auto". Raises OptionError for what is not the name of one."""
    found = os.environ.get(DEVICE)
    if found and re.fullmatch(r"auto|cpu|cuda(:\d+)?", found) is None:
        raise OptionError(
            f"{DEVICE} must be auto, cpu, cuda or cuda:1; got {found!r}. Set it to one of them, or unset it."
        )
    return found or None


def cache() -> str | None:
    """The folder for copies of rows, or OFF. Raises OptionError for what is there and no folder."""
    found = os.environ.get(CACHE)
    if found and found != OFF and os.path.exists(found) and not os.path.isdir(found):
        raise OptionError(f"{CACHE} must name a folder; {found} is a file. Set it to a folder, or unset it.")
    return found or None


def filled(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a fit, with what the environment says for those that have their defaults."""
    told: dict[str, str | None] = {}
    if options["device"] == "auto" and options["backend"] != "cpu":
        told["device"] = device() or "auto"
    if options["cache"] is None:
        folder = cache()
        told["cache"] = None if folder == OFF else folder
    return options | told
