"""Each option of a fit, once: its default, its range, its help. Feeds validation, the command line and docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from cosmeans.errors import OptionError
from cosmeans.printable import brief

STARTS = ("random", "k-means++", "nested")  # the names that `init` takes
_LARGEST = 2**63 - 1
_LARGEST_FLOAT = float(np.finfo(np.float64).max)


def option(
    default: Any,
    *,
    help: str,
    at_least: float | None = None,
    choices: tuple[str, ...] = (),
    none: bool = False,
    kind: type = int,
    switch: bool = False,
) -> Any:
    """A dataclass field that knows how to check and explain itself. switch: a number that may be True or False."""
    return field(
        default=default,
        metadata={"help": help, "at_least": at_least, "choices": choices, "none": none, "kind": kind, "switch": switch},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions:
    """Options that are plain values. `init`, rows and weights are checked where they are opened."""

    n_clusters: int = option(8, at_least=1, help="number of clusters K")
    batch_size: int | None = option(
        None, at_least=1, none=True, help="rows held in working memory at once; default: chosen by memory"
    )
    epochs: int = option(100, at_least=1, help="most passes over the rows")
    n_init: int = option(1, at_least=1, help="number of starts; the run of highest similarity is kept")
    tol: float = option(
        0.0,
        at_least=0.0,
        kind=float,
        help="stop when no centroid moves farther than this chord; 0: fixed point",
    )
    random_state: Any = option(
        None,
        none=True,
        kind=object,
        help="seed of every random choice; default: drawn and kept in the result",
    )
    max_iter: int | None = option(None, at_least=1, none=True, help="another name for epochs")
    verbose: int = option(
        1,
        at_least=0,
        switch=True,
        help="0: silent, 1: progress bars for work that takes a while, 2: with rates and time left",
    )
    warm_start: bool = option(True, kind=bool, help="a second fit goes on from the present centers")
    zero_rows: str = option(
        "warn",
        kind=str,
        choices=("warn", "skip", "error"),
        help="rows of zeros: label -1 with or without a word",
    )
    nonfinite: str = option(
        "error", kind=str, choices=("error", "skip"), help="rows with NaN or infinity: an error, or label -1"
    )
    empty_clusters: str = option(
        "move",
        kind=str,
        choices=("move", "keep", "error"),
        help="a cluster without rows moves to the worst-fitting row, keeps its centroid, or is an error",
    )
    backend: str = option(
        "auto",
        kind=str,
        choices=("auto", "cpu", "gpu", "reference"),
        help="what computes; the answer does not depend on it",
    )
    strategy: str = option(
        "auto",
        kind=str,
        choices=("auto", "float32", "split", "pca", "int8"),
        help="how the CPU finds labels: chosen before every pass, or one by name; the answer does not depend on it",
    )
    memory_limit: int | None = option(
        None,
        at_least=0,
        none=True,
        help="bytes the CPU may keep of the rows from pass to pass; default: 128 MiB, more for gigabytes",
    )
    device: str = option(
        "auto", kind=str, help='where to compute: "auto", "cpu", "cuda", "cuda:1"; the answer does not depend on it'
    )

    def __post_init__(self) -> None:
        for name, value in self.plain({spec.name: getattr(self, spec.name) for spec in fields(self)}).items():
            object.__setattr__(self, name, value)
        if self.max_iter is not None:
            if self.epochs not in (self.max_iter, FitOptions.defaults()["epochs"]):
                raise OptionError(
                    f"epochs={self.epochs} and max_iter={self.max_iter} are two names for one number. Pass one of them."
                )
            object.__setattr__(self, "epochs", self.max_iter)

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options among these values, each checked, as one of Python's own types: NumPy's numbers overflow where
        Python's don't, and JSON takes no others. Raises OptionError.
        """
        return {
            spec.name: plain_option(spec.name, values[spec.name], dict(spec.metadata))
            for spec in fields(cls)
            if spec.name in values
        }

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return {spec.name: spec.default for spec in fields(cls) if spec.default is not MISSING}

    @classmethod
    def help(cls, name: str) -> str:
        return next(spec.metadata["help"] for spec in fields(cls) if spec.name == name)


def check_start(init: str) -> str:
    """The name of a way to find first centroids. Raises OptionError."""
    if not isinstance(init, str) or init not in STARTS:
        names = ", ".join(f'"{name}"' for name in STARTS)
        raise OptionError(f"init must be {names}, an array (K, D) or a callable; got {brief(init)}.")
    return init


def check_integer(name: str, value: Any, at_least: int, at_most: int = _LARGEST) -> int:
    """A number of rows, clusters or the like, as Python's integer. Raises OptionError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not at_least <= int(value) <= at_most:
        limit = "" if at_most == _LARGEST else f" and at most {at_most:,}"
        raise OptionError(f"{name} must be an integer of at least {at_least:,}{limit}, got {brief(value)}.")
    return int(value)


def check_switch(name: str, value: Any) -> bool:
    """True or False, as Python's own. Raises OptionError: "no" would count as True."""
    check_option(name, value, {"kind": bool, "at_least": None, "none": False})
    return bool(value)


def plain_seed(value: Any) -> Any:
    """A random_state: a seed as Python's integer, a RandomState, `numpy.random` or None. Raises OptionError."""
    if value is None or value is np.random or isinstance(value, np.random.RandomState):
        return value
    if isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= _LARGEST:
        return int(value)
    raise OptionError(
        f"random_state must be an integer from 0 to 2^63 - 1, a numpy.random.RandomState or None; got {brief(value)}."
    )


def plain_option(name: str, value: Any, rule: dict[str, Any]) -> Any:
    """The value of an option, checked, as one of Python's own types. Raises OptionError."""
    check_option(name, value, rule)
    kind = rule["kind"]
    if kind is object:
        return plain_seed(value)
    return None if value is None else kind(value)


def check_option(name: str, value: Any, rule: dict[str, Any]) -> None:
    """Raise OptionError if value is not what the option takes."""
    kind, at_least = rule["kind"], rule["at_least"]
    if (value is None and rule["none"]) or kind is object:
        return
    if kind is bool:
        if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
            raise OptionError(f"{name} must be True or False; got {brief(value)}.")
        return
    if kind is str:
        if not rule["choices"] and not isinstance(value, str):
            raise OptionError(f"{name} must be a string; got {brief(value)}.")
        if rule["choices"] and not (isinstance(value, str) and value in rule["choices"]):
            allowed = ", ".join(repr(choice) for choice in rule["choices"])
            raise OptionError(f"{name} must be one of {allowed}; got {brief(value)}.")
        return
    number = Integral if kind is int else Real
    if (
        (isinstance(value, bool) and not rule["switch"])
        or not isinstance(value, number)
        or not _within(value, kind, at_least)
    ):
        noun = "an integer" if kind is int else "a number"
        raise OptionError(f"{name} must be {noun} of at least {at_least:g}; got {brief(value)}.")


def _within(value: Any, kind: type, at_least: float) -> bool:
    """Whether a number is in its range and can be stored: integers in 64 bits, others as finite float64."""
    try:
        plain = kind(value)  # NumPy's numbers of few bits can't be compared with what they can't hold
    except (OverflowError, ValueError):
        return False
    return bool(at_least <= plain <= (_LARGEST if kind is int else _LARGEST_FLOAT))
