"""The screen for Hopper: compiled from hopper.cu at run time by NVRTC, kept on disk, launched with plain pointers.

Why not Triton here: a hand-scheduled kernel reaches the chip's limit of power, Triton three quarters of it
(docs/gpu.md). Why NVRTC: CUDA builds of torch bring it with `cuda.bindings`, and no compiler is needed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from importlib import import_module, resources
from typing import Any

import torch
from torch import Tensor
from triton.runtime.cache import get_cache_manager

from cosmeans.backends.gpu.assign import Doubtful
from cosmeans.backends.gpu.centroids import Quantised
from cosmeans.backends.gpu.rows import ROW_TILE
from cosmeans.errors import BackendUnavailableError

MOST_CLUSTERS = 1 << 17  # column tiles have ten bits of a key
GRID = 2.0**-15  # scores are rounded to multiples of 2^-14
_SHARED = 225 * 1024
_THREADS = 384


def column_tile(n_clusters: int) -> int:
    """Centroids of one product: as few tiles of at most 256 as hold all, evenly filled, in steps of 8."""
    tiles = -(-n_clusters // 256)
    return max(8, -(-n_clusters // (8 * tiles)) * 8)


def stages(columns: int) -> int:
    """How many steps of rows and centroids fit in shared memory at once."""
    return min(8, (_SHARED - 1024) // _stage_bytes(columns))


def _stage_bytes(columns: int) -> int:
    return (ROW_TILE.value + columns) * 128


def source(columns: int) -> str:
    """hopper.cu for this many columns, with the wgmma that has as many in front."""
    n = columns // 2
    registers = ", ".join(f"%{i}" for i in range(n))
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(n))
    product = f"""
__device__ __forceinline__ void product(float (&d)[{n}], unsigned long long a, unsigned long long b, int add) {{
    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{n + 2}, 0;\\n"
                 "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 {{{registers}}}, "
                 "%{n}, %{n + 1}, p, 1, 1, 0, 0;\\n}}"
                 : {outputs} : "l"(a), "l"(b), "r"(add));
}}
"""
    head = f"#define COLUMNS {columns}\n#define STAGES {stages(columns)}\n"
    return head + product + resources.files("cosmeans.backends.gpu").joinpath("hopper.cu").read_text("utf-8")


class _Output(ctypes.Structure):
    """`Output` of hopper.cu."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("residuals", "original", "bounds", "labels")),
        *((name, ctypes.c_void_p) for name in ("list", "list_scores", "pair_rows", "pair_columns", "counts")),
        *((name, ctypes.c_longlong) for name in ("start", "end")),
        ("accumulation", ctypes.c_float),
    ]


def screen(
    halves: Tensor,
    residuals: Tensor,
    start: int,
    centroids: Quantised,
    labels: Tensor,
    doubtful: Doubtful,
    accumulation: float,
    programs: int,
) -> None:
    """`assign.screen` on this chip: rows in tiles of ROW_TILE, centroids in tiles of `centroids.tile`."""
    driver = _bindings("driver")
    kernel = _kernel(centroids.tile, labels.device.index or 0)
    out = _Output(
        *(t.data_ptr() for t in (residuals, centroids.original, centroids.bounds, labels)),
        *(t.data_ptr() for t in (doubtful.rows, doubtful.scores, doubtful.pairs, doubtful.pair_columns)),
        doubtful.counts.data_ptr(),
        *(start, start + len(labels), accumulation),
    )
    pointers = (halves.data_ptr(), centroids.halves.data_ptr(), centroids.n_columns.data_ptr())
    held = [*map(ctypes.c_void_p, pointers), out, ctypes.c_int(centroids.width // 64), ctypes.c_int(1 << 16)]
    arguments = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
    _check(
        driver.cuLaunchKernel(
            *(kernel, programs, 1, 1, _THREADS, 1, 1, _shared_bytes(centroids.tile)),
            *(torch.cuda.current_stream(labels.device).cuda_stream, ctypes.addressof(arguments), 0),
        )
    )


def _shared_bytes(columns: int) -> int:
    return stages(columns) * _stage_bytes(columns) + 1024


@functools.cache
def _kernel(columns: int, device: int) -> Any:
    """The kernel on this device, from the disk if it was compiled before."""
    driver = _bindings("driver")
    code = source(columns)
    nvrtc = _bindings("nvrtc")
    version = _check(nvrtc.nvrtcVersion())
    key = hashlib.sha256(f"{version} {code}".encode()).hexdigest()
    cache = get_cache_manager(key)
    path = cache.get_file("screen.cubin")
    if path is None:
        path = cache.put(_compile(nvrtc, code), "screen.cubin", binary=True)
    with open(path, "rb") as file:
        module = _check(driver.cuModuleLoadData(file.read()))
    kernel = _check(driver.cuModuleGetFunction(module, b"screen"))
    shared = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _check(driver.cuFuncSetAttribute(kernel, shared, _shared_bytes(columns)))
    return kernel


def _compile(nvrtc: Any, code: str) -> bytes:
    program = _check(nvrtc.nvrtcCreateProgram(code.encode(), b"hopper.cu", 0, [], []))
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status) != 0:
        log = b" " * _check(nvrtc.nvrtcGetProgramLogSize(program))
        _check(nvrtc.nvrtcGetProgramLog(program, log))
        raise BackendUnavailableError(
            f"hopper.cu did not compile: {log.decode(errors='replace')} Update cuda-bindings and the NVRTC of "
            "your torch."
        )
    binary = b" " * _check(nvrtc.nvrtcGetCUBINSize(program))
    _check(nvrtc.nvrtcGetCUBIN(program, binary))
    _check(nvrtc.nvrtcDestroyProgram(program))
    return binary


@functools.cache
def _bindings(name: str) -> Any:
    return import_module(f"cuda.bindings.{name}")


def build(n_clusters: int, device: torch.device) -> None:
    """Have the kernel for this number of clusters ready. Raises BackendUnavailableError with the reason."""
    _kernel(column_tile(n_clusters), device.index or 0)


def why_not(device: torch.device) -> str | None:
    """None if this screen can run on the device, else the reason."""
    if device.type != "cuda" or torch.version.hip:
        return "it is no NVIDIA GPU"
    if torch.cuda.get_device_capability(device) != (9, 0):
        return "it is no Hopper GPU"
    try:
        _bindings("driver"), _bindings("nvrtc")
    except ImportError as error:
        return f"cuda-bindings can't be imported ({error}); pip install 'cosmeans[gpu]' brings it"
    return None


def _check(answer: tuple[Any, ...]) -> Any:
    """The values of a CUDA call, or its error as ours."""
    if int(answer[0]) != 0:
        raise BackendUnavailableError(
            f"CUDA answered {answer[0]!s} when the Hopper screen was built or launched. Update "
            "cuda-bindings and the driver."
        )
    return answer[1] if len(answer) == 2 else answer[1:]
