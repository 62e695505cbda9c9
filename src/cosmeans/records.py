"""Values read from files, checked against a declared table: nothing that was loaded is used before.

    check = record({"seed": integer(0), "history": each(record({"similarity": number(-1, 1)}))})
    check(parse(text), "")      # the values of the table; ValueError: "history[3].similarity must be a number ..."

Fields that the table doesn't name are ignored, at every level: a newer version may have written them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

Check = Callable[[Any, str], Any]

LARGEST = 2**63 - 1  # integers are stored in 64 bits everywhere else
_HALF = re.compile("[\ud800-\udfff]")
_SHOWN, _LONGEST = 40, 200  # characters of a value, and of another message, in a message


def parse(text: str) -> Any:
    """Values of a JSON text. Raises ValueError for anything else, nesting without end included.

    NaN and infinity, which are not JSON, are left to the checks: those name the field.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its values are nested too deeply") from error


def integer(least: int, most: int = LARGEST) -> Check:
    """An integer in a range; true and false are none."""

    def check(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _wrong(name, f"an integer from {least} to {'2^63 - 1' if most == LARGEST else most}", value)
        return value

    return check


def number(least: float, most: float) -> Check:
    """A finite number in a range, as float."""

    def check(value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise _wrong(name, f"a number from {least:g} to {most:g}", value)
        return float(value)

    return check


def text(value: Any, name: str) -> str:
    """A string that can be written: JSON can also name halves of characters."""
    if not isinstance(value, str) or (not value.isascii() and _HALF.search(value)):
        raise _wrong(name, "a string of whole characters", value)
    return value


def one_of(words: type[StrEnum]) -> Check:
    """A member of an enumeration of words."""

    def check(value: Any, name: str) -> StrEnum:
        if not isinstance(value, str) or value not in [word.value for word in words]:
            raise _wrong(name, "one of " + ", ".join(repr(word.value) for word in words), value)
        return words(value)

    return check


def by(convert: Callable[[Any], Any]) -> Check:
    """Whatever a function takes; its ValueError says what it needs."""

    def check(value: Any, name: str) -> Any:
        try:
            return convert(value)
        except ValueError as error:
            raise ValueError(f"{name}: {str(error)[:_LONGEST]}") from error

    return check


def optional(checked: Check) -> Check:
    """Null, or what another check takes."""
    return lambda value, name: None if value is None else checked(value, name)


def each(checked: Check) -> Check:
    """A list, all of whose items pass a check."""

    def check(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list):
            raise _wrong(name, "a list", value)
        return [checked(item, f"{name}[{place}]") for place, item in enumerate(value)]

    return check


def record(table: Mapping[str, Check], *, sparse: bool = False) -> Check:
    """An object with these fields, each checked; others are left out. sparse: fields may be missing."""

    def check(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(name or "it", "an object", value)
        prefix = f"{name}." if name else ""
        missing = [] if sparse else [field for field in table if field not in value]
        if missing:
            raise ValueError(f"{prefix}{missing[0]} is missing")
        return {field: checked(value[field], prefix + field) for field, checked in table.items() if field in value}

    return check


def _wrong(name: str, needed: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be {needed}; it is {_shown(value)}")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return f"an integer of {math.ceil(value.bit_length() * math.log10(2))} digits"
    shown = json.dumps(value)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
