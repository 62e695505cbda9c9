"""Libraries that only some formats need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cosmeans.errors import FileError
from cosmeans.rows.place import Place


def needed(module: str, place: Place, extra: str) -> Any:
    """A library that is there only where its extra was installed. Raises FileError, which names the extra."""
    try:
        return import_module(module)
    except ImportError as error:
        raise FileError(f'Reading {place} needs {module} ({error}): pip install "cosmeans[{extra}]".') from error
