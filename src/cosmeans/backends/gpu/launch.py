"""Starting kernels with little of the host's time.

Triton looks at every argument of every start to find the compiled kernel that fits them, which takes 30 to 50 us where
many of our kernels take 3. What it looks at are few facts (the type of a number, whether it is 1 or divisible by 16,
whether an address is divisible by 16), so kernels once found are kept by these.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from triton.runtime import driver

_ready: dict[tuple[object, ...], tuple[Any, tuple[object, ...]]] = {}  # compiled kernels, and their constants


def launch(kernel: Any, programs: int, *args: Tensor | float, **constants: Any) -> None:
    """kernel[(programs,)](*args, **constants); arguments of the kernel that are constants come last and by name."""
    first = args[0]
    assert isinstance(first, Tensor)
    if torch.version.hip or not first.is_cuda:  # more facts count there; or the interpreter runs
        kernel[(programs,)](*args, **constants)
        return
    device = first.device.index
    facts: list[object] = [kernel, device, *constants.items()]
    values: list[float] = []
    for arg in args:
        if isinstance(arg, Tensor):
            value: float = arg.data_ptr()
            facts += (arg.dtype, value % 16)
        else:
            value = arg
            facts.append(fact_of(arg))
        values.append(value)
    key = tuple(facts)
    if key not in _ready:
        compiled = kernel[(programs,)](*args, **constants)
        _ready[key] = compiled, tuple(constants[name] for name in kernel.arg_names[len(args) :])
        return
    compiled, tail = _ready[key]
    compiled[(programs, 1, 1)](*values, *tail, stream=stream_on(device))


def fact_of(number: float) -> object:
    """What compiling may ask of a number, or more."""
    if not isinstance(number, int):
        return float
    return 1 if number == 1 else (number % 16, number.bit_length() > 31, number < 0)


def stream_on(device: int) -> int:
    """torch's current stream there, as the driver knows it; torch's own way of asking makes an object first."""
    stream: int = driver.active.get_current_stream(device)
    return stream
