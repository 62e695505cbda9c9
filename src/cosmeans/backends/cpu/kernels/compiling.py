"""How numba compiles the loops of this folder, and where they are kept.

numba's cache raises where it finds no folder that it can write to, where a file is damaged and where a disk is full,
and knows an entry by the source of one function alone. Here an entry that can't be read is compiled, one that can't be
written is not kept, and all sources of this folder are part of its name: loops call one another across files. numba has
no public way to be given another cache: what is private to it is marked where it is used.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from cosmeans import calls, sphere
from cosmeans.caches import temporary_folder, writable
from cosmeans.compile_clock import CLOCK
from cosmeans.version import __version__

JIT: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# called by other loops alone, never from Python: what would let it call them takes a good part of the compiling
# inline="always" with it: what is called once is compiled once
INNER: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
# sums and largest values in any order, products added in one rounding. Not "nnan": NaN stays NaN, and what compares
# with it is false, so that NaN proves nothing. The time of single loops differs by a factor of 0.98 to 1.07, that of
# fits within noise
INNER_ORDERLESS: dict[str, Any] = INNER | {"fastmath": {"nsz", "reassoc", "contract"}}

config: Any = numba.config  # made of environment variables when numba is imported
DISABLED = bool(config.DISABLE_JIT)  # NUMBA_DISABLE_JIT, which is read when loops are defined
_HERE = Path(__file__).parent
_ALONE = calls.Lock()
COMPILING = "compiling for this processor, once: about 5 s"
_DIGEST = 32  # bytes of SHA-256 before what is kept


def njit(
    *, cache: bool = False, kept: Callable[[Callable[..., Any]], Any] | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`, whose cache never stops work. The one way to compile in this package.

    kept: what to keep compiled code with; None: `Kept`
    """
    kept = kept or Kept

    def decorate(function: Callable[..., Any]) -> Any:
        kernel: Any = numba.njit(**options)(function)
        if cache and isinstance(kernel, Dispatcher):
            kernel._cache = kept(function)  # type: ignore[attr-defined]  # noqa: SLF001
            _compile_alone(kernel)
        return kernel

    return decorate


def _compile_alone(kernel: Any) -> None:
    """Compile for new types in one thread at a time: two at once have been seen to fail.

    Calls for known types don't come here. A fork waits until nothing is being compiled (`calls.Lock`).
    """
    whole = kernel._compile_for_args  # noqa: SLF001

    def compile_for(*args: Any, **named: Any) -> Any:
        with CLOCK.running(), _ALONE:
            return whole(*args, **named)

    kernel._compile_for_args = compile_for  # noqa: SLF001


class Kept:
    """What was compiled of one function, a file for each signature and processor. In place of numba's `FunctionCache`.

    A file is the digest of what follows, and numba's pickle: no damaged code is loaded.

    folders  () -> where to keep it, best first; None: `known_folders`
    sources  () -> a hash of all that it is made from; None: `known_sources`
    """

    def __init__(
        self,
        function: Callable[..., Any],
        folders: Callable[[], Iterable[Path]] | None = None,
        sources: Callable[[], str] | None = None,
    ) -> None:
        self._function = function
        self._folders, self._sources = folders or known_folders, sources or known_sources
        self._enabled = True

    @property
    def cache_path(self) -> str | None:
        """For numba's statistics: the first folder looked at."""
        return next(map(str, self._folders()), None)

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Forget what was compiled."""
        for folder in self._folders():
            _remove(folder, f"{self._name}.")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled for these types; None if it can't be had."""
        if not self._enabled:
            return None
        target_context.refresh()
        try:
            name = self._file(sig, target_context.codegen())
        except Exception:  # noqa: BLE001 - of numba: what can't be named isn't kept
            return None
        for folder in self._folders():
            try:
                found = (folder / name).read_bytes()
                if hashlib.sha256(found[_DIGEST:]).digest() == found[:_DIGEST]:
                    return CompileResult._rebuild(target_context, *pickle.loads(found[_DIGEST:]))  # noqa: SLF001
            except Exception:  # noqa: BLE001 - whatever is wrong with it: it is compiled
                continue
        CLOCK.announce(COMPILING)
        return None

    def save_overload(self, sig: Any, result: Any) -> None:
        """Keep it where that is possible, for other processes."""
        if not self._enabled:
            return
        try:
            if result.library.has_dynamic_globals or not all(lifted.can_cache for lifted in result.lifted):
                return
            name, content = self._file(sig, result.codegen), dumps(result._reduce())  # noqa: SLF001
        except Exception:  # noqa: BLE001 - of numba: what can't be pickled isn't kept
            return
        for folder in self._folders():
            if _write(folder / name, hashlib.sha256(content).digest() + content):
                _remove(folder, f"{self._name}.", but=self._sources()[:12])
                return

    @property
    def _name(self) -> str:
        code = self._function.__code__
        return f"{Path(code.co_filename).stem}.{self._function.__name__}-{code.co_firstlineno}"

    def _file(self, sig: Any, codegen: Any) -> str:
        """A name that differs wherever the compiled code may."""
        settings = config.BOUNDSCHECK, config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.DEBUGINFO_DEFAULT
        facts = (numba.__version__, sys.version, self._sources(), self._name, str(sig), codegen.magic_tuple(), settings)
        code = hashlib.sha256(repr(facts).encode() + self._function.__code__.co_code).hexdigest()
        return f"{self._name}.{self._sources()[:12]}.{code[:32]}.nbc"


def known_folders() -> Iterator[Path]:
    """Where compiled loops may be kept, best first: as numba is told to, next to the sources, in the user's cache."""
    place = hashlib.sha256(str(_HERE).encode()).hexdigest()[:16]
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR, f"cosmeans-{place}")
    else:
        yield _HERE / "__pycache__"
        users = Path(AppDirs(appname="cosmeans", appauthor=False).user_cache_dir, place)
        if users.is_absolute():  # it isn't where nobody knows the user's home
            yield users
    ours = temporary_folder()
    if ours is not None:
        yield ours / place


@cache
def hint() -> str | None:
    """One line on what to set if loops can't be kept. None if they can, or are kept already."""
    for folder in known_folders():
        if writable(folder) or any(folder.glob(f"*.{known_sources()[:12]}.*")):
            return None
    return (
        "there is no writable folder to keep compiled code in, so each process compiles it again, which takes some "
        "seconds. Set NUMBA_CACHE_DIR to a writable folder."
    )


@cache
def known_sources() -> str:
    """A hash of all that is compiled here; of the program that holds it where there are no files (frozen, zipped)."""
    known = hashlib.sha256(__version__.encode())
    known.update(repr((sphere.UNIT_TOLERANCE, sphere.SMALLEST_NORMAL, sphere.UNIT_ROUNDOFF)).encode())
    try:
        files = sorted(_HERE.glob("*.py"))
        for file in files:
            known.update(file.read_bytes())
        if not files:
            program = os.stat(sys.executable)
            known.update(f"{program.st_mtime_ns} {program.st_size}".encode())
    except OSError:
        pass
    return known.hexdigest()


def _write(path: Path, content: bytes) -> bool:
    """Whole or not at all: two processes may compile at once. False if it isn't possible."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _remove(folder: Path, beginning: str, but: str | None = None) -> None:
    """Files of a function whose sources were others."""
    try:
        for file in folder.glob(f"{beginning}*.nbc"):
            if but is None or not file.name.startswith(f"{beginning}{but}"):
                file.unlink(missing_ok=True)
    except OSError:
        pass
