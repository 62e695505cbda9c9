"""Each option of a fit, declared once. Validation, the flags of `cosmeans fit` and model folders are made from it.

`KMeans.__init__`, its docstring and docs/options.md repeat what is declared here, since tools read them as they are
written; tests/test_options.py proves that they agree.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cosmeans.choices import BackendName, EmptyClusters, InitName, Nonfinite, Strategy, ZeroRows, did_you_mean, names_of
from cosmeans.errors import OptionError
from cosmeans.printable import brief

STARTS = names_of(InitName)
_LARGEST = 2**63 - 1
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([a-zA-Z]*)")
_UNITS = {"": 1, "b": 1, **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}}
_UNITS |= {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", 1)}
_LARGEST_FLOAT = sys.float_info.max


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """What is known of one option.

    kind      int, float, str or bool; object: a value that is checked where it is used
    none      whether it may be None
    at_least  the smallest value of a number
    choices   the names that a string may be; none: any string
    switch    a number that may be True or False
    size      a number of bytes, which may be a string with a unit
    takes     what it takes, in words
    help      what it does: the help of its flag, and the beginning of its entry in the docstring of `KMeans`
    """

    name: str
    default: Any
    kind: type
    none: bool
    at_least: float
    choices: tuple[str, ...]
    switch: bool
    size: bool
    takes: str
    help: str

    def plain(self, value: Any) -> Any:
        """The value, checked, as one of Python's own types. Raises OptionError."""
        if self.kind is object:
            return _PLAIN.get(self.name, _as_it_is)(value)
        if self.size and isinstance(value, str):
            return self._bytes(value)
        self._check(value)
        return None if value is None else self.kind(value)

    def _bytes(self, value: str) -> int:
        """A number of bytes that is written with its unit."""
        found = _SIZE.fullmatch(value.strip())
        if found is None or found[2].lower() not in _UNITS:
            raise OptionError(
                f'{self.name} must be a number of bytes of at least 0, or a string such as "8GB" or "500 MiB"; got '
                f"{brief(value)}."
            )
        return int(float(found[1]) * _UNITS[found[2].lower()])

    def _check(self, value: Any) -> None:
        if value is None and self.none:
            return
        if self.kind is bool:
            check_switch(self.name, value)
        elif self.kind is str:
            self._check_string(value)
        else:
            self._check_number(value)

    def _check_string(self, value: Any) -> None:
        if not self.choices and not isinstance(value, str):
            raise OptionError(f"{self.name} must be a string; got {brief(value)}.")
        if self.choices and not (isinstance(value, str) and value in self.choices):
            allowed = ", ".join(map(repr, self.choices))
            hint = did_you_mean(value, self.choices)
            raise OptionError(f"{self.name} must be one of {allowed}; got {brief(value)}.{hint}")

    def _check_number(self, value: Any) -> None:
        number = Integral if self.kind is int else Real
        if (
            (isinstance(value, bool) and not self.switch)
            or not isinstance(value, number)
            or not _within(value, self.kind, self.at_least)
        ):
            noun = "an integer" if self.kind is int else "a number"
            raise OptionError(f"{self.name} must be {noun} of at least {self.at_least:g}; got {brief(value)}.")


def option(
    default: Any,
    *,
    help: str,
    at_least: float = 0,
    switch: bool = False,
    size: bool = False,
    takes: str = "",
) -> Any:
    """A field of FitOptions. Its type is its annotation; takes: default: what the type says in words."""
    told = {"help": help, "at_least": at_least, "switch": switch, "size": size, "takes": takes}
    return field(default=default, metadata=told)


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions:
    """Options that are plain values. `init`, rows and weights are checked where they are opened."""

    n_clusters: int = option(8, at_least=1, help="number of clusters K")
    batch_size: int | None = option(
        None,
        at_least=1,
        help="rows held in working memory at once, or a few megabytes if that is more; default: by memory",
    )
    epochs: int = option(
        100, at_least=1, help="maximum number of passes over the rows; a fit ends earlier when no centroid moves"
    )
    n_init: int = option(1, at_least=1, help="number of starts; the run with the highest similarity is kept")
    tol: float = option(
        0.0, help="convergence tolerance: stop when no centroid moves farther than this; 0 runs to the fixed point"
    )
    random_state: Any = option(
        None,
        takes="int, RandomState or None",
        help="seed of every random choice; the same seed gives the same answer",
    )
    max_iter: int | None = option(None, at_least=1, help="another name for epochs")
    verbose: int = option(
        1, switch=True, help="0: silent; 1: progress and time left of work that takes a while; 2: with rates"
    )
    warm_start: bool = option(default=True, help="a second fit continues from the current centers")
    zero_rows: ZeroRows = option(
        "warn", help="rows of zeros: label -1 with a warning, label -1 without one, or an error"
    )
    nonfinite: Nonfinite = option("error", help="rows with NaN or infinity: an error, or label -1")
    empty_clusters: EmptyClusters = option(
        "move",
        help="a cluster without rows moves to the worst-fitting row, keeps its centroid, or is an error",
    )
    backend: BackendName = option(
        "auto",
        help="compute backend; never changes the result",
    )
    strategy: Strategy = option(
        "auto",
        help='how the CPU finds labels; "auto" chooses before every pass; never changes the result',
    )
    memory_limit: int | None = option(
        None,
        size=True,
        takes='int, str such as "8GB" or None',
        help="bytes of memory for what is kept of the rows; default: for rows that are decoded from files or come in "
        "batches a quarter of what is free, else 128 MiB or more",
    )
    device_memory_limit: int | None = option(
        None,
        size=True,
        takes='int, str such as "8GB" or None',
        help="bytes of a GPU's memory for rows and what is kept of them; default: all that is free; no effect on a CPU",
    )
    cache: Any = option(
        None,
        takes="str, Path or None",
        help="a folder for a copy of rows that do not fit into memory_limit: decoded ones, which are decoded in every "
        "pass without one, and float32 rows of mapped files, of which most passes on a CPU then read half",
    )
    checkpoint: Any = option(
        None,
        takes="str, Path or None",
        help="a folder where a fit keeps how far it is, so that the same call goes on after its process has ended; "
        "never changes the result",
    )
    resume: Any = option(
        "auto",
        takes='"auto", True or False',
        help="whether to go on from a checkpoint: if there is one, always (else it is an error), or never",
    )
    checkpoint_seconds: float = option(
        30.0, help="how often a checkpoint is written: after the first epoch that ends so long after the last"
    )
    device: str = option(
        "auto",
        takes='"auto", "cpu", "cuda" or "cuda:1"',
        help='where to compute; "auto" takes a GPU if there is one; never changes the result',
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
        if self.resume is True and self.checkpoint is None:
            raise OptionError("resume=True needs checkpoint, the folder to go on from. Pass checkpoint=DIR.")

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The options among these values, each checked, as one of Python's own types: NumPy's numbers overflow where
        Python's don't, and JSON takes no others. Raises OptionError.
        """
        return {name: OPTIONS[name].plain(values[name]) for name in cls.defaults() if name in values}

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        return {spec.name: spec.default for spec in fields(cls)}


def declared(options: type[FitOptions]) -> dict[str, Option]:
    """Every option by name, in the order of the parameters of `KMeans`."""
    hints = get_type_hints(options)
    found: dict[str, Option] = {}
    for spec in fields(options):
        hint = hints[spec.name]
        choices = names_of(hint) if get_origin(hint) is Literal else ()
        kinds = (str,) if choices else get_args(hint) or (hint,)
        kind = object if kinds[0] is Any else kinds[0]
        told = dict(spec.metadata)
        takes = told.pop("takes") or _in_words(choices or (kind.__name__,), NoneType in kinds)
        found[spec.name] = Option(
            name=spec.name,
            default=spec.default,
            kind=kind,
            none=NoneType in kinds,
            choices=choices,
            takes=takes,
            **told,
        )
        if spec.name == "epochs":
            found["init"] = _INIT
    return found


def _in_words(kinds: tuple[str, ...], none: bool) -> str:
    """The names of types, or strings that are allowed, as one lists them."""
    names = [f'"{kind}"' if len(kinds) > 1 else kind for kind in kinds] + ["None"] * none
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# not a plain value, and so not a field of FitOptions: `start.given_centroids` and `check_start` check it
_INIT = Option(
    name="init",
    default="random",
    kind=object,
    none=False,
    at_least=0,
    choices=STARTS,
    switch=False,
    size=False,
    takes='"random", "k-means++", "nested", array (K, D) or callable(X, n_clusters, random_state)',
    help="how the first centroids are chosen",
)

OPTIONS = declared(FitOptions)


def check_start(init: str) -> str:
    """The name of a way to find first centroids. Raises OptionError."""
    if not isinstance(init, str) or init not in STARTS:
        names = ", ".join(f'"{name}"' for name in STARTS)
        raise OptionError(
            f"init must be {names}, an array (K, D) or a callable; got {brief(init)}.{did_you_mean(init, STARTS)}"
        )
    return init


def check_integer(name: str, value: Any, at_least: int, at_most: int = _LARGEST) -> int:
    """A number of rows, clusters or the like, as Python's integer. Raises OptionError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or not at_least <= int(value) <= at_most:
        limit = "" if at_most == _LARGEST else f" and at most {at_most:,}"
        raise OptionError(f"{name} must be an integer of at least {at_least:,}{limit}, got {brief(value)}.")
    return int(value)


def check_switch(name: str, value: Any) -> bool:
    """True or False, as Python's own. Raises OptionError: "no" would count as True."""
    if not (isinstance(value, bool | int) or _is_switch_of_numpy(value)) or value not in (0, 1):
        raise OptionError(f"{name} must be True or False; got {brief(value)}.")
    return bool(value)


def _is_switch_of_numpy(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.bool_)


def plain_seed(value: Any) -> Any:
    """A random_state: a seed as Python's integer, a RandomState, `numpy.random` or None. Raises OptionError."""
    if isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) <= _LARGEST:
        return int(value)
    import numpy as np  # the command line reads this file to show its help, and knows integers alone

    if value is None or value is np.random or isinstance(value, np.random.RandomState):
        return value
    raise OptionError(
        f"random_state must be an integer from 0 to 2^63 - 1, a numpy.random.RandomState or None; got {brief(value)}."
    )


def _plain_resume(value: Any) -> bool | str:
    if isinstance(value, str) and value == "auto":
        return value
    if isinstance(value, bool) or _is_switch_of_numpy(value):
        return bool(value)
    raise OptionError(f'resume must be "auto", True or False; got {brief(value)}.')


def _plain_folder(name: str, value: Any) -> str | None:
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise OptionError(f"{name} must be the path of a folder or None; got {brief(value)}.")
    return path


def _as_it_is(value: Any) -> Any:
    return value


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "random_state": plain_seed,
    "cache": partial(_plain_folder, "cache"),
    "checkpoint": partial(_plain_folder, "checkpoint"),
    "resume": _plain_resume,
}


def _within(value: Any, kind: type, at_least: float) -> bool:
    """Whether a number is in its range and can be stored: integers in 64 bits, others as finite float64."""
    try:
        plain = kind(value)  # NumPy's numbers of few bits can't be compared with what they can't hold
    except (OverflowError, ValueError):
        return False
    return bool(at_least <= plain <= (_LARGEST if kind is int else _LARGEST_FLOAT))
