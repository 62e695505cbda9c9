"""Text of others made printable: texts of rows, names of files, keys and columns, fields of models.

Such text may hold characters that act where it is shown: control characters and escape sequences steer a terminal,
bidirectional controls (Unicode UAX #9) show text in another order than it has, and a lone surrogate, which JSON and
file names can hold, can't be written in UTF-8 at all. Every table, message and file of text gets it through one of
these functions; errors and warnings of `cosmeans.errors` do so by themselves.

    escaped   messages: one line in which nothing is lost, what acts is shown as Python writes it (\\x1b, \\n, \\u202e)
    line      tables, pages, labels: the same, with white space as single spaces
    markdown  one line of a Markdown file, without any markup
    cell      a cell of a CSV file, which no spreadsheet takes for a formula
    writable  data (Parquet): the text as it is, but for what UTF-8 can't hold
    brief     any value in a message: its `repr`, as far as it is short
    sentence  words that begin a sentence
    without_secrets  URLs without what may be credentials: errors and warnings do so, too
"""

from __future__ import annotations

import re
from typing import Any

_SURROGATES = r"\ud800-\udfff"
_MARKS = r"\u061c\u200e\u200f"  # steer the order of their neighbours, and are common in Arabic and Hebrew
_ORDER = r"\u202a-\u202e\u2066-\u206f"
_INVISIBLE = r"\u2028\u2029\ufeff\ufff9-\ufffb"
_LONE = re.compile(f"[{_SURROGATES}]")
_ACTS = re.compile(rf"[\x00-\x1f\x7f-\x9f{_MARKS}{_ORDER}{_INVISIBLE}{_SURROGATES}]")
_ACTS_IN_CELLS = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_ORDER}{_INVISIBLE}{_SURROGATES}]")  # tab, newline: data
_BREAKS = re.compile(r"\r\n?")
_MARK = re.compile(f"[{_MARKS}]")
_SPACE = re.compile(r"\s+")
_LONGEST_VALUE = 200  # characters of a value that a message shows
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}

# URLs: the scheme, who asks (a secret may hold slashes, which a port does not precede), server and path, and the query
# as far as it does not end a sentence
_SECRETS = re.compile(
    r"(\b[a-zA-Z][\w+.-]*://)(?:(?![^/\s]*:\d+/)[^\s@'\"?]*:[^\s@'\"?]*@|[^/\s@'\"?]*@)?([^\s?'\"]*)"
    r"(?:\?[^\s'\"]+?(?=[.,;:)]*(?:[\s'\"]|$)))?"
)

# OWASP, CSV injection: signs that begin a formula, also in full width, also behind white space or quotes
_FORMULA = re.compile(r"[\s'\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_INLINE = re.compile(r"[\\`*_~|$]|\](?=\s?[(\[:])")  # brackets alone are no link
_BLOCK = re.compile(r"^(\d*)([#+\-=:.)\[])")  # begins a heading, a list, a task, a rule


def escaped(text: str) -> str:
    """The text in one line; every character that acts is shown as its escape."""
    return text if text.isascii() and text.isprintable() else _ACTS.sub(_escape, text)


def without_secrets(text: str) -> str:
    """The text with the URLs in it as they may be shown: without `user:password@`, and without what follows a `?`."""
    return _SECRETS.sub(r"\1\2", text) if "://" in text else text


def line(text: str) -> str:
    """The text as one line of words: white space is single spaces, marks of direction go, what acts is escaped."""
    return escaped(_SPACE.sub(" ", _MARK.sub("", text)).strip())


def sentence(words: str) -> str:
    """The words with a capital letter."""
    return words[:1].upper() + words[1:]


def markdown(text: str) -> str:
    """The text as one line that Markdown and HTML show as it is."""
    plain = _INLINE.sub(r"\\\g<0>", line(text)).translate(_ENTITIES)
    return _BLOCK.sub(r"\1\\\2", plain)


def cell(text: str) -> str:
    """The text as a cell of a CSV file: an apostrophe goes before what a spreadsheet would take for a formula.

    Newlines and tabs are data and stay; a spreadsheet that reads the apostrophe shows the text without it.
    """
    harmless = _ACTS_IN_CELLS.sub(_escape, _BREAKS.sub("\n", text))
    return "'" + harmless if _FORMULA.match(harmless) else harmless


def writable(text: str) -> str:
    """The text as it is; lone surrogates, which no encoding of Unicode can hold, are shown as their escapes."""
    return _LONE.sub(_escape, text)


def brief(value: Any) -> str:
    """What a message says of a value: never long, and never an error of its own."""
    try:
        shown = line(repr(value))
    except Exception:  # noqa: BLE001  Python refuses to write integers of many digits, and a class may refuse anything
        return f"a value of type {type(value).__name__} that can't be shown"
    return shown if len(shown) <= _LONGEST_VALUE else shown[: _LONGEST_VALUE - 1] + "…"


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
