"""What an entry or a column is: a number, or something that has no cosine, in words that say what to do."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Complex, Real
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.errors import ComplexInputError, InputTypeError
from cosmeans.printable import brief

NUMBERS, VECTORS = "numbers", "vectors"
_OF_KIND = {
    **dict.fromkeys("fiu", NUMBERS),
    **dict.fromkeys("USTa", "text"),
    **{"b": "booleans", "c": "complex numbers", "M": "dates", "m": "durations", "O": "objects"},
}
_ADVICE = {
    "booleans": "Use x.astype(np.float32), for a tensor x.float(), or the cast of your library.",
    "complex numbers": "Use x.real or abs(x).",
    "text": "Pass the embeddings of texts; numbers stored as text need float() first.",
    "dates": "Leave them out, or turn them into numbers whose direction has a meaning.",
    "durations": "Leave them out, or turn them into numbers whose direction has a meaning.",
    "categories": "Leave them out, or encode them as numbers (one column per category).",
    "sparse values": "Use x.astype(np.float32), which makes a frame dense.",
    "records": "Stack their fields, np.stack([x[name] for name in x.dtype.names], axis=-1), or pass one field.",
}
_OTHERWISE = "Pass an array, a tensor or a frame of numbers."


def of_dtype(dtype: np.dtype[Any]) -> str:
    """The noun for an array of this dtype: NUMBERS, "objects" (to be looked at one by one), or what it is instead."""
    if dtype.names is not None:
        return "records"
    if dtype.kind == "V" and dtype.type.__module__.startswith("ml_dtypes"):
        return NUMBERS
    return _OF_KIND.get(dtype.kind, f"values of dtype {dtype}")


def of_type(kind: type) -> str | None:
    """The noun for a Python object of this type; None: a number, or nothing (None, NA: a NaN)."""
    module = kind.__module__.partition(".")[0]
    if kind.__name__ in ("NoneType", "NAType", "NaTType", "MaskedConstant"):
        return None
    if issubclass(kind, bool | np.bool_):
        return "booleans"
    if issubclass(kind, str | bytes):
        return "text"
    if issubclass(kind, np.datetime64 | date | time) or (module == "pandas" and kind.__name__ == "Period"):
        return "dates"
    if issubclass(kind, np.timedelta64 | timedelta):
        return "durations"
    if issubclass(kind, list | tuple | np.ndarray | Tensor):
        return VECTORS
    if issubclass(kind, Real | Decimal | np.number) and not issubclass(kind, np.complexfloating):
        return None
    if issubclass(kind, Complex):
        return "complex numbers"
    if module == "pandas" and kind.__name__ == "Series":
        return VECTORS
    return f"objects of type {kind.__name__}"


def is_null(value: Any) -> bool:
    """Whether an entry is missing: None, NA, NaT or masked. It counts as NaN."""
    return type(value).__name__ in ("NoneType", "NAType", "NaTType", "MaskedConstant")


def refusal(noun: str, name: str, came: str, where: str = "") -> InputTypeError:
    """The error for anything but real numbers. came: what came, in words; where: " in column 'zip'"."""
    advice = _ADVICE.get(noun, _OTHERWISE)
    if noun == "complex numbers":
        return ComplexInputError(
            f"Complex data not supported: {name} must be real numbers. {advice} (Got {came}{where}.)"
        )
    return InputTypeError(f"{name} must be real numbers, got {came}{where}. {advice}")


def refuse_value(value: Any, noun: str, name: str, where: str = "") -> InputTypeError:
    """`refusal` for one entry among others."""
    kind = type(value).__name__
    came = f"{brief(value)[:60]} of type {kind}"
    if noun in _ADVICE:
        return refusal(noun, name, came, f"{where} ({noun})")
    # Python's own words, which scikit-learn asks for
    reason = f"float() argument must be a string or a real number, not {kind!r}"
    return InputTypeError(f"{name} must be an array of real numbers, got {came}{where}: {reason}. {_OTHERWISE}")
