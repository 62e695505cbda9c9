"""The kernels run in Triton's interpreter here; outputs are poisoned, so a place left unwritten shows."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

# read when the kernels are first imported
os.environ["TRITON_INTERPRET"] = "1"
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


@pytest.fixture(scope="session", autouse=True)
def builtins_known() -> Iterator[None]:
    """Triton's interpreter looks through its whole language for what to patch, for each function that a kernel calls:
    a third of the time of these tests. What it found in a module once is what it will find there."""
    known: dict[int, list[str]] = {}

    def patch(package: Any, builder: Any, scope: Any) -> None:
        if id(package) not in known:
            known[id(package)] = [name for name, member in inspect.getmembers(package) if is_builtin(member)]
        for name in known[id(package)]:
            member = getattr(package, name)
            if is_builtin(member):
                interpreter._patch_attr(package, name, member, builder, scope)

    if "scope" not in inspect.signature(interpreter._patch_builtin).parameters:  # an older Triton
        yield
        return
    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(interpreter, "_patch_builtin", patch)
        yield
