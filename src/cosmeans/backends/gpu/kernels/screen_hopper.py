"""The screen for Hopper: screen_hopper.cu, compiled at run time by NVRTC, kept on disk, launched with plain pointers.

Why not Triton: a hand-scheduled kernel reaches the chip's limit of power, Triton three quarters of it
(docs/design-gpu.md). Why NVRTC: CUDA builds of torch bring it with `cuda.bindings`, and no compiler is needed.
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

from cosmeans.backends.gpu.kernels.columns import QuantizedCentroids
from cosmeans.backends.gpu.kernels.launch import COMPILING, stream_on
from cosmeans.backends.gpu.kernels.quantize import QuantizedRows
from cosmeans.backends.gpu.kernels.screen import BOUND_ROUNDING, UNDERFLOW, UNIT_EXCESS, Errors, GatherList, Uncertified
from cosmeans.backends.gpu.tuning import SAMPLED
from cosmeans.calls import Lock
from cosmeans.compile_clock import CLOCK
from cosmeans.errors import BackendUnavailableError

ROW_TILE = 64  # rows of a tile, whatever the shape: rows are quantised before K is known
_SHARED_BYTES = 217 * 1024  # of what a block has; the rest is for lists
_SHORT, _LONG = 192, 1024  # features
_MANY = 2048  # centroids
_POSITIONS = 64  # of columns in a thread; the key of an 8-bit score is so many times the score, plus the position

_nvrtc_lock = Lock()  # one thread compiles a shape, others read the file


@dataclass(frozen=True, slots=True)
class Shape:
    """How the kernel is cut: 64 * groups rows by `columns` centroids; a thread puts `hold` of its two rows aside."""

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
        return min(8, (_SHARED_BYTES - 1024) // self._stage_bytes)

    @property
    def shared_bytes(self) -> int:
        return self.stages * self._stage_bytes + 1024

    @property
    def _stage_bytes(self) -> int:
        return (self.rows + self.columns) * 128


def shape_for(n_clusters: int, n_features: int, integers: bool = False) -> Shape:
    """The fastest of those tried on an H100 (`gpu.py screens`): rows that are held take registers from columns."""
    if integers:  # wider in steps of 16 alone
        return Shape(2, _even(n_clusters, 256, 16), 1, integers)
    if n_clusters >= _MANY or (n_features >= _LONG and n_clusters > 256):
        return Shape(2, _even(n_clusters, 256), 1)  # rows are read again for each tile of centroids: few wide ones
    if n_features <= _SHORT:  # ranking takes longer than products: three groups rank at the same time
        return Shape(3, _even(n_clusters, 200), 0)
    if n_clusters <= 256:
        return Shape(2, _even(n_clusters, 256), 1)
    return Shape(2, _even(n_clusters, 200), 2)


def _even(n_clusters: int, most: int, step: int = 8) -> int:
    """Centroids of one product: as few tiles of at most `most` as hold all, evenly filled, in steps that exist."""
    tiles = -(-n_clusters // most)
    return -(-n_clusters // (step * tiles)) * step


def rounding(integers: bool) -> float:
    """What the screen takes away from a score at most: six bits of a float32, or the rounding of an integer to one."""
    return 2.0**-21 if integers else 2.0**-17


def source(shape: Shape) -> str:
    """screen_hopper.cu for this shape, after what it expects to be defined."""
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
    defined = {
        **{"GROUPS": shape.groups, "COLUMNS": shape.columns, "STAGES": shape.stages, "HOLD": shape.hold},
        **{"INTEGERS": int(shape.integers), "POSITIONS": _POSITIONS, "SAMPLED": SAMPLED},
        "UNIT_EXCESS": f"{UNIT_EXCESS.value.hex()}f",
        "UNDERFLOW": f"{UNDERFLOW.value.hex()}f",
        "BOUND_ROUNDING": f"{BOUND_ROUNDING.value.hex()}f",
    }
    head = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    kernel = resources.files("cosmeans.backends.gpu.kernels").joinpath("screen_hopper.cu").read_text("utf-8")
    return head + product + kernel


class Output(ctypes.Structure):
    """`Output` of screen_hopper.cu: what a screen reads of rows and columns, and where it writes."""

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
    copy: QuantizedRows,
    start: int,
    centroids: QuantizedCentroids,
    labels: Tensor,
    uncertified: Uncertified,
    errors: Errors,
    programs: int,
    listed: GatherList | None = None,
    close: float = 0.0,
) -> None:
    """`screen.screen` on this chip: rows in tiles of `ROW_TILE`, centroids in tiles of `shape.columns`.

    close: in one of `SAMPLED` row tiles, rows whose second or third score is that near to the best are counted, in
    counts[2] and counts[3] of `uncertified`.
    """
    assert (copy.tile, centroids.tile) == (ROW_TILE, shape.columns)  # otherwise it would read other rows
    end, entries, device = start + len(labels), (0, 0), labels.device.index or 0
    if listed is not None:
        end, entries = len(copy.scales), (listed.rows.data_ptr(), listed.count.data_ptr())
    out = Output(
        *(t.data_ptr() for t in (copy.residuals, copy.scales, centroids.original, centroids.bounds, labels)),
        *(t.data_ptr() for t in (uncertified.rows, uncertified.scores, uncertified.pairs, uncertified.pair_clusters)),
        uncertified.counts.data_ptr(),
        *entries,
        *(start, end, errors.accumulation, errors.rounding, close, len(centroids.centroids)),
    )
    read = (copy.values.data_ptr(), centroids.values.data_ptr(), centroids.n_columns.data_ptr())
    steps = centroids.width // (128 if shape.integers else 64)
    held = [*map(ctypes.c_void_p, read), out, ctypes.c_int(steps), ctypes.c_int(_POSITIONS)]
    arguments = (ctypes.c_void_p * len(held))(*(ctypes.addressof(value) for value in held))
    checked(
        _bindings("driver").cuLaunchKernel(
            *(_kernel(shape, device), programs, 1, 1, shape.threads, 1, 1, shape.shared_bytes),
            *(stream_on(device), ctypes.addressof(arguments), 0),
        )
    )


@functools.cache
def _kernel(shape: Shape, device: int) -> Any:
    """The kernel, loaded on this device."""
    driver = _bindings("driver")
    with CLOCK.running():
        path = compiled(shape)
    with open(path, "rb") as file:
        module = checked(driver.cuModuleLoadData(file.read()))
    kernel = checked(driver.cuModuleGetFunction(module, b"screen"))
    shared = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    checked(driver.cuFuncSetAttribute(kernel, shared, shape.shared_bytes))
    return kernel


def compiled(shape: Shape) -> str:
    """The file of the compiled kernel; compiles it unless that was done before, by this process or another."""
    with _nvrtc_lock:
        code = source(shape)
        nvrtc = _bindings("nvrtc")
        version = checked(nvrtc.nvrtcVersion())
        key = hashlib.sha256(f"{version} {code}".encode()).hexdigest()
        cache = get_cache_manager(key)
        path: str | None = cache.get_file("screen.cubin")
        if path is None:
            CLOCK.announce(COMPILING)
        return path or cache.put(_compile(nvrtc, code), "screen.cubin", binary=True)


def _compile(nvrtc: Any, code: str) -> bytes:
    program = checked(nvrtc.nvrtcCreateProgram(code.encode(), b"screen_hopper.cu", 0, [], []))
    options = [b"--gpu-architecture=sm_90a", b"--std=c++17"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status) != 0:
        log = b" " * checked(nvrtc.nvrtcGetProgramLogSize(program))
        checked(nvrtc.nvrtcGetProgramLog(program, log))
        raise BackendUnavailableError(
            f"screen_hopper.cu did not compile: {log.decode(errors='replace')} Update cuda-bindings and the NVRTC of "
            "your torch."
        )
    binary: bytes = b" " * checked(nvrtc.nvrtcGetCUBINSize(program))
    checked(nvrtc.nvrtcGetCUBIN(program, binary))
    checked(nvrtc.nvrtcDestroyProgram(program))
    return binary


@functools.cache
def _bindings(name: str) -> Any:
    return import_module(f"cuda.bindings.{name}")


def build(shape: Shape, device: torch.device) -> None:
    """Compile and load the kernel of this shape. Raises BackendUnavailableError with the reason."""
    _kernel(shape, device.index or 0)


@functools.cache
def why_not(device: torch.device) -> str | None:
    """None if this screen can run on the device, else the reason."""
    if device.type != "cuda" or torch.version.hip:
        return "it is not an NVIDIA GPU"
    if torch.cuda.get_device_capability(device) != (9, 0):
        return "it is not a Hopper GPU"
    try:
        _bindings("driver"), _bindings("nvrtc")
    except ImportError as error:
        return f"cuda-bindings can't be imported ({error}); pip install 'cosmeans[gpu]' brings it"
    return None


# parts of the names of errors that another version of a library does not have
_OF_VERSIONS = (
    *("INVALID_IMAGE", "INVALID_SOURCE", "INVALID_PTX", "NO_BINARY_FOR_GPU", "UNSUPPORTED_PTX_VERSION"),
    *("SYMBOL_NOT_FOUND", "NOT_SUPPORTED", "DRIVER_MISMATCH", "STUB_LIBRARY", "INVALID_OPTION", "BUILTIN_OPERATION"),
)


def checked(answer: tuple[Any, ...]) -> Any:
    """The values of a call of cuda.bindings. Raises BackendUnavailableError where its status is not 0."""
    status = answer[0]
    if int(status) == 0:
        return answer[1] if len(answer) == 2 else answer[1:]
    name = getattr(status, "name", str(status))
    if "OUT_OF_MEMORY" in name:
        advice = 'Free memory on the GPU, or pass device="cpu".'
    elif any(part in name for part in _OF_VERSIONS):
        advice = "Update cuda-bindings and the driver."
    else:
        advice = "An earlier kernel may have failed: set CUDA_LAUNCH_BLOCKING=1 to see which, in a new process."
    raise BackendUnavailableError(f"CUDA answered {name} when the Hopper screen was built or launched. {advice}")
