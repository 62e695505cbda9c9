"""The kernels run in Triton's interpreter here; outputs are poisoned, so a place left unwritten shows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="the GPU kernels are written in Triton")

from triton.language.core import is_builtin
from triton.runtime import interpreter

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_POISON = {torch.bool: True, **dict.fromkeys(_FLOATS, float("nan"))}


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty gives the worst there is: NaN, or the smallest integer."""
    empty, empty_like = torch.empty, torch.empty_like

    def spoil(out: torch.Tensor) -> torch.Tensor:
        return out.fill_(_POISON[out.dtype] if out.dtype in _POISON else torch.iinfo(out.dtype).min)

    monkeypatch.setattr(torch, "empty", lambda *a, **k: spoil(empty(*a, **k)))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: spoil(empty_like(*a, **k)))
    return


class _Patch:
    """In place of Triton's patch of its own language, which looks through all of it for each function that a kernel
    calls: half the time of these tests. Here each module of a kernel's functions is patched once a launch."""

    def __init__(self) -> None:
        self.patch = interpreter._patch_lang
        self.builtins: dict[int, list[str]] = {}
        self.patched: set[int] = set()  # modules, by their names' address, while a kernel runs

    def of_package(self, package: Any, builder: Any, scope: Any) -> None:
        """What was found in a package once is what will be found there."""
        if id(package) not in self.builtins:
            self.builtins[id(package)] = [name for name, member in inspect.getmembers(package) if is_builtin(member)]
        for name in self.builtins[id(package)]:
            member = getattr(package, name)
            if is_builtin(member):
                interpreter._patch_attr(package, name, member, builder, scope)

    def __call__(self, function: Any) -> Any:
        if id(function.__globals__) in self.patched:
            return None  # a function of a kernel: its caller asks for nothing
        scope, outermost = self.patch(function), not self.patched
        self.patched.add(id(function.__globals__))
        if outermost:
            restore = scope.restore
            scope.restore = lambda: self.patched.clear() or restore()
        return scope


@pytest.fixture(scope="session", autouse=True)
def patched_once() -> Iterator[None]:
    if "scope" not in inspect.signature(interpreter._patch_builtin).parameters:  # an older Triton
        yield
        return
    of_kind: Any = interpreter._get_np_dtype
    known: dict[str, Any] = {}

    def numpy_type(kind: Any) -> Any:
        """Without a table made again for every question. Pointers can't be looked up."""
        scalar = kind.scalar
        if scalar.is_ptr():
            return of_kind(scalar)
        if scalar.name not in known:
            known[scalar.name] = of_kind(scalar)
        return known[scalar.name]

    with pytest.MonkeyPatch.context() as patching:
        patch = _Patch()
        patching.setattr(interpreter, "_get_np_dtype", numpy_type)
        patching.setattr(interpreter, "_patch_lang", patch)
        patching.setattr(interpreter, "_patch_builtin", patch.of_package)
        yield
