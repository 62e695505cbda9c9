"""The screen for Hopper: screen_hopper.cu, compiled at run time by NVRTC, kept on disk, launched with plain pointers.

Why not Triton here: a hand-scheduled kernel reaches the chip's limit of power, Triton three quarters of it
(docs/gpu.md). Why NVRTC: CUDA builds of torch bring it with `cuda.bindings`, and no compiler is needed.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from dataclasses import dataclass
from importlib import import_module, resources
from typing import Any

import torch
from torch import Tensor
from triton.runtime.cache import get_cache_manager

from cosmeans.backends.gpu.kernels.columns import Quantised
from cosmeans.backends.gpu.kernels.launch import stream_on
from cosmeans.backends.gpu.kernels.quantize import Copy
from cosmeans.backends.gpu.kernels.screen import Doubtful, Errors, Listed
from cosmeans.calls import Lock
from cosmeans.errors import BackendUnavailableError

ROW_TILE = 64  # rows of a tile, whatever the shape: the copy of the rows is made before K decides
_SHARED = 217 * 1024  # of what a block has; the rest are lists
_SHORT, _LONG = 192, 1024  # features
_MANY = 2048  # centroids
_PLACES = 64  # of columns in a thread; keys of 8-bit scores are these times the score, plus a place

_compiling = Lock()


@dataclass(frozen=True, slots=True)
class Shape:
    """How the kernel is cut: groups * 64 rows by `columns` centroids, and how many of a thread's two rows it holds."""

    groups: int
    columns: int
    hold: int
    integers: bool = False

    @property
    def rows(self) -> int:
        return ROW_TILE * self.groups

    @property
    def threads(self) -> int:
        return 128 * (1 + self.groups)

    @property
    def stages(self) -> int:
        """How many steps of rows and centroids fit in shared memory at once."""
        return min(8, (_SHARED - 1024) // self._stage_bytes)

    @property
    def shared_bytes(self) -> int:
        return self.stages * self._stage_bytes + 1024

    @property
    def _stage_bytes(self) -> int:
        return (self.rows + self.columns) * 128


def shape_for(n_clusters: int, n_features: int, integers: bool = False) -> Shape:
    """Fastest of those tried on an H100 (`gpu.py screens`): what is held takes registers from the columns."""
    if integers:  # wider in steps of 16 alone
        return Shape(2, _even(n_clusters, 256, 16), 1, integers)
    if n_clusters >= _MANY or (n_features >= _LONG and n_clusters > 256):
        return Shape(2, _even(n_clusters, 256), 1)  # rows are read anew for each tile of centroids: wide ones
    if n_features <= _SHORT:  # ranking takes longer than products: three groups keep more of it going
        return Shape(3, _even(n_clusters, 200), 0)
    if n_clusters <= 256:
        return Shape(2, _even(n_clusters, 256), 1)
    return Shape(2, _even(n_clusters, 200), 2)


def _even(n_clusters: int, most: int, step: int = 8) -> int:
    """Centroids of one product: as few tiles of at most `most` as hold all, evenly filled, in steps that exist."""
    tiles = -(-n_clusters // most)
    return -(-n_clusters // (step * tiles)) * step


def rounding(integers: bool) -> float:
    """What the screen may take away from a score: six bits of a float32, or what a sum of integers loses in one."""
    return 2.0**-21 if integers else 2.0**-17


def source(shape: Shape) -> str:
    """screen_hopper.cu for this shape, with the wgmma that it needs in front."""
    n = shape.columns // 2
    registers = ", ".join(f"%{i}" for i in range(n))
    kind, letter = ("int", "r") if shape.integers else ("float", "f")
    outputs = ", ".join(f'"+{letter}"(d[{i}])' for i in range(n))
    types, scales = ("k32.s32.s8.s8", "p") if shape.integers else ("k16.f32.f16.f16", "p, 1, 1, 0, 0")
    product = f"""
typedef {kind} Sum;
__device__ __forceinline__ void product(Sum (&d)[{n}], unsigned long long a, unsigned long long b, int add) {{
    asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{n + 2}, 0;\\n"
                 "wgmma.mma_async.sync.aligned.m64n{shape.columns}{types} {{{registers}}}, "
                 "%{n}, %{n + 1}, {scales};\\n}}"
                 : {outputs} : "l"(a), "l"(b), "r"(add));
}}
"""
    sizes = {"GROUPS": shape.groups, "COLUMNS": shape.columns, "STAGES": shape.stages, "HOLD": shape.hold}
    head = "".join(f"#define {name} {value}\n" for name, value in {**sizes, "INTEGERS": int(shape.integers)}.items())
    kernel = resources.files("cosmeans.backends.gpu.kernels").joinpath("screen_hopper.cu").read_text("utf-8")
    return head + product + kernel


class _Output(ctypes.Structure):
    """`Output` of screen_hopper.cu."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("residuals", "units", "original", "bounds", "labels")),
        *((name, ctypes.c_void_p) for name in ("list", "list_scores", "pair_rows", "pair_clusters", "counts")),
        *((name, ctypes.c_void_p) for name in ("listed", "n_listed")),
        *((name, ctypes.c_longlong) for name in ("start", "end")),
        *((name, ctypes.c_float) for name in ("accumulation", "rounding", "close")),
        ("n_clusters", ctypes.c_int),
    ]


def screen(
    shape: Shape,
    copy: Copy,
    start: int,
    centroids: Quantised,
    labels: Tensor,
    doubtful: Doubtful,
    errors: Errors,
    programs: int,
    listed: Listed | None = None,
    close: float = 0.0,
) -> None:
    """`screen.screen` on this chip: rows in tiles of `ROW_TILE`, centroids in tiles of `shape.columns`.

    close: rows of a sample with a second or third score that near are counted in counts[2] and [3] (`choice.Choice`).
    """
    assert (copy.tile, centroids.tile) == (ROW_TILE, shape.columns)  # else it would read other rows
    end, entries, device = start + len(labels), (0, 0), labels.device.index or 0
    if listed is not None:
        end, entries = len(copy.units), (listed.rows.data_ptr(), listed.count.data_ptr())
    out = _Output(
        *(t.data_ptr() for t in (copy.residuals, copy.units, centroids.original, centroids.bounds, labels)),
        *(t.data_ptr() for t in (doubtful.rows, doubtful.scores, doubtful.pairs, doubtful.pair_clusters)),
        doubtful.counts.data_ptr(),
        *entries,
        *(start, end, errors.accumulation, errors.rounding, close, len(centroids.centroids)),
    )
    read = (copy.values.data_ptr(), centroids.values.data_ptr(), centroids.n_columns.data_ptr())
    steps = centroids.width // (128 if shape.integers else 64)
    held = [*map(ctypes.c_void_p, read), out, ctypes.c_int(steps), ctypes.c_int(_PLACES)]
    arguments = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
    _check(
        _bindings("driver").cuLaunchKernel(
            *(_kernel(shape, device), programs, 1, 1, shape.threads, 1, 1, shape.shared_bytes),
            *(stream_on(device), ctypes.addressof(arguments), 0),
        )
    )


@functools.cache
def _kernel(shape: Shape, device: int) -> Any:
    """The kernel on this device."""
    driver = _bindings("driver")
    with open(compiled(shape), "rb") as file:
        module = _check(driver.cuModuleLoadData(file.read()))
    kernel = _check(driver.cuModuleGetFunction(module, b"screen"))
    shared = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _check(driver.cuFuncSetAttribute(kernel, shared, shape.shared_bytes))
    return kernel


def compiled(shape: Shape) -> str:
    """The file of the compiled kernel, from the disk if it was compiled before. A thread waits for another's."""
    with _compiling:
        code = source(shape)
        nvrtc = _bindings("nvrtc")
        version = _check(nvrtc.nvrtcVersion())
        key = hashlib.sha256(f"{version} {code}".encode()).hexdigest()
        cache = get_cache_manager(key)
        path: str | None = cache.get_file("screen.cubin")
        return path or cache.put(_compile(nvrtc, code), "screen.cubin", binary=True)


def _compile(nvrtc: Any, code: str) -> bytes:
    program = _check(nvrtc.nvrtcCreateProgram(code.encode(), b"screen_hopper.cu", 0, [], []))
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status) != 0:
        log = b" " * _check(nvrtc.nvrtcGetProgramLogSize(program))
        _check(nvrtc.nvrtcGetProgramLog(program, log))
        raise BackendUnavailableError(
            f"screen_hopper.cu did not compile: {log.decode(errors='replace')} Update cuda-bindings and the NVRTC of "
            "your torch."
        )
    binary = b" " * _check(nvrtc.nvrtcGetCUBINSize(program))
    _check(nvrtc.nvrtcGetCUBIN(program, binary))
    _check(nvrtc.nvrtcDestroyProgram(program))
    return binary


@functools.cache
def _bindings(name: str) -> Any:
    return import_module(f"cuda.bindings.{name}")


def build(shape: Shape, device: torch.device) -> None:
    """Have the kernel of this shape ready. Raises BackendUnavailableError with the reason."""
    _kernel(shape, device.index or 0)


@functools.cache
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
