"""How a public call begins: out of what the caller's surroundings would change in it; and what a fork leaves of it.

Embedding code is full of inference mode and autocast, calls come from functions that torch compiles, and from children
of a fork. What a call computes must not depend on that, nor may anything that the process keeps after it.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

import torch

from cosmeans.errors import BackendUnavailableError, CosmeansError, DeviceMemoryError

P = ParamSpec("P")
R = TypeVar("R")
_AUTOCAST = ("cpu", "cuda")  # where this library computes


class _Thread(threading.local):
    """threads: those that a call may use, if torch's number says something else."""

    threads: int | None = None


_here = _Thread()
_inside: ContextVar[bool] = ContextVar("a public call is running", default=False)
_OUT_OF_MEMORY = ("out of memory", "OUT_OF_MEMORY", "STATUS_ALLOC_FAILED")
AFTER_FORK = (
    'Start it by multiprocessing.get_context("spawn"), or pass rows of the host and device="cpu"; a model that was '
    "fitted on rows of a GPU has to be saved before the fork, and loaded here."
)
_disabled: list[Any] = []
_PATIENCE = 60.0  # seconds that a fork waits for a lock: compiling one loop takes a few
_forked: set[int] = set()  # the thread that a fork left in this process


def public(function: Callable[P, R]) -> Callable[P, R]:
    """A public function: what it does happens as if nobody had called it. The outermost one counts.

    Left are inference mode (its tensors can't be written later, and some of ours are kept), gradients, autocast,
    `torch.compile` (a fit is not a graph), and torch's threads in the child of a fork, which hang there. Defaults for
    dtype and device stay: every tensor here is made with its own.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        run: Any = _uncompiled() if "torch._dynamo" in sys.modules else _run
        result: R = run(function, args, kwargs)
        return result

    return _not_traced(call)


def usable_threads() -> int:
    """How many threads this call may use: torch's number is the one knob."""
    return _here.threads or torch.get_num_threads()


def _run(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _inside.get():
        return function(*args, **kwargs)
    # a context of its own ends with the call, whatever interrupts it; a line of `finally` may not be reached
    return copy_context().run(_outermost, function, args, kwargs)


def _outermost(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _inside.set(True)
    with _plain():
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            ours = _of_a_gpu(error)
            if ours is None:
                raise
            raise ours from error


# ---------------------------------------------------------------------- a GPU


def lost_in_fork() -> str | None:
    """Why no GPU can be used in this process, if it is the child of one that used a GPU; else None."""
    if not torch.cuda._is_in_bad_fork():  # noqa: SLF001  torch tells it nowhere else
        return None
    return "this process was forked from one that had used a GPU, and CUDA does not work in such a child"


def ran_out(error: BaseException) -> bool:
    """Whether memory of a GPU ran out, whichever library reports it: torch, its libraries, the driver, Triton."""
    told = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(words in told for words in _OUT_OF_MEMORY)


def _of_a_gpu(error: RuntimeError) -> CosmeansError | None:
    """The error of ours that this one is, if it is about a GPU's memory, or about a GPU after a fork."""
    if isinstance(error, CosmeansError) and not isinstance(error, BackendUnavailableError):
        return None
    lost = lost_in_fork()
    if lost is not None and "CUDA" in str(error) and not isinstance(error, CosmeansError):
        return BackendUnavailableError(f"A GPU is needed, but {lost}. {AFTER_FORK}")
    if not ran_out(error):
        return None
    asked = re.search(r"Tried to allocate ([\d.]+ [KMGT]?i?B)", str(error))
    wanted = f", for {asked[1]} more" if asked else ""
    return DeviceMemoryError(
        f"Out of GPU memory{wanted}: {_free()}. Free memory there, pass fewer rows or ask for fewer "
        'clusters, or pass device="cpu".'
    )


def _free() -> str:
    """What the present GPU has free, as it says."""
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # not even a context found room
        return "it is full"
    return f"{free / 2**20:,.0f} of {total / 2**20:,.0f} MiB are free"


# ------------------------------------------------------------------- contexts


@contextmanager
def _plain() -> Iterator[None]:
    with ExitStack() as surroundings:
        if torch.is_inference_mode_enabled():
            surroundings.enter_context(torch.inference_mode(mode=False))
        surroundings.enter_context(torch.no_grad())
        for device in _AUTOCAST:
            if torch.is_autocast_enabled(device):
                surroundings.enter_context(torch.autocast(device, enabled=False))
        if threading.get_ident() in _forked:
            surroundings.enter_context(_one_thread_of_torch())
        yield


class ModesOfAGenerator:
    """torch's modes as a generator of the caller's left them: on again when it continues, and off in between.

    One that yields inside of `with torch.inference_mode()` leaves that on in the thread that asked for the next item.
    """

    def __init__(self) -> None:
        self._modes = _modes()

    def run(self, step: Callable[[], R]) -> R:
        """A step of the generator."""
        inference, gradients, autocast = self._modes
        with ExitStack() as modes:  # each one puts back what there is now
            modes.enter_context(torch.inference_mode(mode=inference))
            modes.enter_context(torch.set_grad_enabled(gradients))
            for device, enabled, dtype in autocast:
                modes.enter_context(torch.autocast(device, dtype=dtype, enabled=enabled))
            try:
                return step()
            finally:
                self._modes = _modes()


def _modes() -> tuple[bool, bool, list[tuple[str, bool, torch.dtype]]]:
    """Whether inference mode and gradients are on in this thread; of each device, whether autocast is, and its type."""
    autocast = [(name, torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in _AUTOCAST]
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), autocast


@contextmanager
def _one_thread_of_torch() -> Iterator[None]:
    """OpenMP's threads don't survive a fork, and the thread that forked waits for them forever if it had some.

    Threads of our own, which are as many as the caller allows, and others that the child starts are not concerned.
    """
    threads = torch.get_num_threads()
    _here.threads = threads
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _here.threads = None


def _uncompiled() -> Any:
    """`_run` out of reach of `torch.compile`, which is not loaded for it, and which would warn of a cached function."""
    if not _disabled:
        _disabled.append(torch.compiler.disable(_run))
    return _disabled[0]


def _not_traced(call: Callable[P, R]) -> Callable[P, R]:
    """Marked as `torch.compiler.disable` marks what it returns, which would load the compiler to do so."""
    call._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
    frames: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)  # noqa: SLF001
    if hasattr(frames, "skip_code"):
        frames.skip_code(call.__code__)
    return call


# ------------------------------------------------------------------- a fork


class Lock:
    """A lock of this package: one thread at a time, and never held by a thread that a fork left behind.

    A fork waits until nobody holds it, so that what it guards is whole in the child, too. For modules, not for calls.
    """

    def __init__(self) -> None:
        self.inner = threading.RLock()  # a signal's handler may fork while its thread holds it
        _locks.append(self)

    def __enter__(self) -> None:
        self.inner.acquire()

    def __exit__(self, *exception: object) -> None:
        self.inner.release()


_locks: list[Lock] = []
_held: dict[int, list[Lock]] = {}  # by threads that fork


def _before_fork() -> None:
    _held[threading.get_ident()] = [lock for lock in _locks if lock.inner.acquire(timeout=_PATIENCE)]


def _in_parent() -> None:
    for lock in _held.pop(threading.get_ident()):
        lock.inner.release()


def _in_child() -> None:
    for lock in _locks:
        lock.inner = threading.RLock()
    _held.clear()
    _forked.clear()
    _forked.add(threading.get_ident())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
