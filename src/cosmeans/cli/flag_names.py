"""Options as the command line names them: one text says `n_clusters=3` in Python and `--clusters 3` here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

_ALIASES = {
    "folder": "out",
    "partition_by_cluster": "partition",
}  # names in Python of parameters that are called otherwise here
_NOT_PLAIN = re.compile(r"[^\w.:/+-]")
_VALUE = r"\"[^\"]*\"|'[^']*'|[^\s,;:()]*[^\s,;:().]"


def flag_of(parameter: Any) -> str:
    """The flag by which messages name a parameter: its first long one."""
    names: list[str] = parameter.opts
    return next((name for name in names if name.startswith("--")), names[0])


def with_flags(message: str, parameters: Iterable[Any]) -> str:
    """The message with flags in place of the names of options in Python, of these parameters of a command."""
    # "key (--key)" and "dtype='f4' (--dtype)" name both
    message = re.sub(rf"\b\w+(?:=({_VALUE}))? \((--[a-z-]+)\)", lambda found: _given(found[2], found[1]), message)
    flags = {parameter.name: flag_of(parameter) for parameter in parameters if parameter.param_type_name == "option"}
    flags |= {name: flags[ours] for name, ours in _ALIASES.items() if ours in flags and name not in flags}
    for name, flag in flags.items():
        message = re.sub(rf"(?<![\w./-]){name}=({_VALUE})", partial(_with_value, flag), message)
        if "_" in name:
            message = re.sub(rf"(?<![\w./'\"-]){name}(?![\w'\"=/-]|\.\w)", flag, message)
        else:  # a word of its own, which may mean something else in a sentence
            message = re.sub(rf"^{name}(?= must\b| is\b| has\b|:)|(?<=\bLower ){name}(?=\.)", flag, message)
    return message


def _with_value(flag: str, found: re.Match[str]) -> str:
    return _given(flag, found[1])


def _given(flag: str, value: str | None) -> str:
    """A flag with its value, as one types them: a switch has none."""
    value = None if value == "True" else value
    plain = (value or "").strip("\"'")
    return flag if value is None else f"{flag} {value if _NOT_PLAIN.search(plain) else plain}"
