"""The kernels run in Triton's interpreter here; outputs are poisoned, so a place left unwritten shows."""

from __future__ import annotations

import os

import pytest
import torch

# read when the kernels are first imported
os.environ["TRITON_INTERPRET"] = "1"
pytest.importorskip("triton", reason="the GPU kernels are written in Triton")

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
