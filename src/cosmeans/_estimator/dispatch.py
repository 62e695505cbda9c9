"""What computes a fit, and where: chosen from the options, the rows and what this machine has."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cosmeans.backends import gpu
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.calls import AFTER_FORK, lost_in_fork, public, ran_out
from cosmeans.choices import DEVICES, did_you_mean
from cosmeans.console import silent
from cosmeans.containers.converted import floating_type
from cosmeans.contracts import Backend, RowSource
from cosmeans.errors import BackendUnavailableError, DeviceMemoryError, OptionError
from cosmeans.options import FitOptions

_said: set[str] = set()  # lines that are shown once


def choose_backend(options: FitOptions, source: RowSource, say: Callable[[str], None]) -> Backend:
    """The backend and device asked for, or the fastest that can run on these rows.

    Raises OptionError for anything but the name of a device, BackendUnavailableError with the reason if what was
    asked for by name can't run here.
    """
    device = choose_device(options, source, say)
    if options.backend == "reference":
        return ReferenceBackend(device)
    if device.type == "cpu" and options.backend != "gpu":
        return _cpu(options, say)
    if options.backend == "cpu":
        raise BackendUnavailableError(f'backend="cpu" can\'t run on {device}. Pass device="cpu" or backend="auto".')
    return _gpu(device, options, say)


def takes_heads(options: FitOptions, source: RowSource) -> bool:
    """Whether what computes can do with heads of rows (`inspection.heads.HasHeads`) in most passes."""
    from cosmeans.backends import cpu

    compiled = options.backend != "reference" and not cpu.DISABLED
    return compiled and choose_device(options, source, silent).type == "cpu"


def kept_by_cpu(options: FitOptions, source: RowSource) -> int:
    """Bytes that a fit on a CPU keeps of the rows in any case, as far as `memory_limit` allows."""
    from cosmeans.backends import cpu

    return cpu.needed_bytes(options.strategy, source.n_rows, source.n_features)


@public
def empty_cache() -> None:
    """Release the GPU memory that is kept for the next small fit: at most a 64th of the device's.

    It returns to torch's allocator, for other work in this process; `torch.cuda.empty_cache()` after this returns it to
    the device. The next small fit takes some milliseconds longer. Does nothing without a GPU.
    """
    gpu.empty_cache()


def choose_device(options: FitOptions, source: RowSource, say: Callable[[str], None]) -> torch.device:
    """Where to compute; `auto` stays where the rows are, or takes a GPU that has a way for them."""
    if options.device == "auto":
        if options.backend == "cpu":
            return torch.device("cpu")
        if source.device.type not in ("cpu", "cuda"):
            raise BackendUnavailableError(
                f"The rows are on {source.device}, which this library can't compute on (it needs exact float64 and "
                "int64). Pass x.cpu()."
            )
        if lost_in_fork():
            return _after_fork(options, source, say)
        if source.device.type == "cuda" or options.backend == "reference":
            return source.device
        if torch.cuda.is_available() and (options.backend == "gpu" or _has_a_way(source, options, say)):
            say(f"computing on {torch.cuda.get_device_name()}")
            return torch.device("cuda", torch.cuda.current_device())
        if options.backend == "gpu":
            raise BackendUnavailableError('backend="gpu" needs a CUDA GPU; torch sees none. Use backend="auto".')
        return torch.device("cpu")
    try:
        device = torch.device(options.device)
    except RuntimeError as error:
        hint = did_you_mean(options.device, DEVICES)
        raise OptionError(f'device must be "auto", "cpu", "cuda" or "cuda:1"; got {options.device!r}.{hint}') from error
    return _found(device)


def _after_fork(options: FitOptions, source: RowSource, say: Callable[[str], None]) -> torch.device:
    """The CPU, where no GPU can be used, unless one is needed."""
    why = lost_in_fork()
    if source.device.type == "cuda":
        raise BackendUnavailableError(f"The rows are on {source.device}, but {why}. {AFTER_FORK}")
    if options.backend == "gpu":
        raise BackendUnavailableError(f'backend="gpu" needs a GPU, but {why}. {AFTER_FORK}')
    if options.backend != "reference":
        _say_once(
            say, f'computing on the CPU: {why}. Workers started by multiprocessing.get_context("spawn") can use it'
        )
    return torch.device("cpu")


def _found(device: torch.device) -> torch.device:
    """The device with its index, if it is there."""
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise BackendUnavailableError(
            f'device="{device}" has no exact float64 arithmetic for this library. Pass device="cpu" or "auto".'
        )
    if lost_in_fork():
        raise BackendUnavailableError(f'device="{device}" was asked for, but {lost_in_fork()}. {AFTER_FORK}')
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index if device.index is not None else 0
    if index >= count:
        raise BackendUnavailableError(
            f'device="{device}" needs that GPU; torch sees {count or "none"}. Use device="cpu" or "auto".'
        )
    return torch.device("cuda", device.index if device.index is not None else torch.cuda.current_device())


def _has_a_way(source: RowSource, options: FitOptions, say: Callable[[str], None]) -> bool:
    """Whether the current GPU can fit rows of the host; one line says why not."""
    try:
        from cosmeans.backends.gpu.kernels.launch import keep_compiled_kernels
        from cosmeans.backends.gpu.rows.plans import plan_incoming

        device = torch.device("cuda", torch.cuda.current_device())
        keep_compiled_kernels()
        row_bytes = source.n_features * floating_type(source.dtype).itemsize
        shape, state = torch.Size((source.n_rows, source.n_features)), gpu.state_of(device)
        state = state.limited(options.device_memory_limit)
        plan_incoming(shape, row_bytes, options.n_clusters, state.free_bytes(), device, limit=state.limit)
    except ImportError as error:
        say(f"computing on the CPU: the GPU backend needs Triton ({error}). pip install triton")
        return False
    except (BackendUnavailableError, DeviceMemoryError) as error:
        say(f"computing on the CPU: {error}")
        return False
    except RuntimeError as error:  # a card so full that it takes no context
        if not ran_out(error):
            raise
        say("computing on the CPU: the GPU's memory is full")
        return False
    return True


def _cpu(options: FitOptions, say: Callable[[str], None]) -> Backend:
    """The CPU backend; the reference where compiling is switched off and nothing compiled was asked for."""
    from cosmeans.backends import cpu  # with numba, which nothing else needs

    if cpu.DISABLED:
        if options.backend == "cpu" or options.strategy != "auto":
            asked = 'backend="cpu"' if options.backend == "cpu" else f'strategy="{options.strategy}"'
            raise BackendUnavailableError(
                f"{asked} needs compiled code, and NUMBA_DISABLE_JIT is set. Unset it and start Python again, or pass "
                'backend="reference", which gives the same bits slowly.'
            )
        _say_once(say, 'computing with backend="reference", many times slower: NUMBA_DISABLE_JIT is set')
        return ReferenceBackend("cpu")
    line = cpu.hint()
    if line is not None:
        _say_once(say, line)
    return cpu.CpuBackend(options.strategy, options.memory_limit)


def _say_once(say: Callable[[str], None], line: str) -> None:
    """Once in a process, where it is shown."""
    if say is not silent and line not in _said:
        _said.add(line)
        say(line)


def _gpu(device: torch.device, options: FitOptions, say: Callable[[str], None]) -> Backend:
    if device.type != "cuda":
        raise BackendUnavailableError(
            f'backend="gpu" can\'t run on {device}. Pass device="cuda", or backend="cpu" or "auto".'
        )
    try:
        from cosmeans.backends.gpu.backend import GpuBackend
    except ImportError as error:
        raise BackendUnavailableError(
            f"The fit is to run on {device}, and the GPU backend needs Triton ({error}). pip install triton, or pass "
            'device="cpu".'
        ) from error
    return GpuBackend(device, memory_limit=options.device_memory_limit, log=say)
