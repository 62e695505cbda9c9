"""Weights of rows, made safe for integer sums (rule 4)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans.containers.converted import ConvertedRows
from cosmeans.containers.read import read_numbers
from cosmeans.errors import InputError


def prepare_weights(sample_weight: Any, n_rows: int) -> tuple[Tensor | None, int]:
    """Weights as (N,) float64, times 2^e, and e: weights all below 1 are scaled so that the largest lies in [1, 2).

    None and a single number weigh all rows alike.
    """
    weights = read_weights(sample_weight, n_rows)
    if weights is None:
        return None, 0
    largest = float(weights.max()) if n_rows else 0.0
    exponent = 1 - int(np.frexp(largest)[1]) if largest < 1.0 else 0
    return torch.from_numpy(np.ldexp(weights.numpy(), exponent)), exponent  # 2.0**exponent itself may overflow


def read_weights(sample_weight: Any, n_rows: int) -> Tensor | None:
    """Weights as the user meant them, (N,) float64 on the CPU; None where none were given.

    They are numbers by the rule for rows (`containers.read.read_numbers`): a null or a masked weight is NaN, and NaN is
    an error. Raises InputTypeError for what is not numbers, InputError for another shape and for values that weights
    can't have.
    """
    if sample_weight is None:
        return None
    given, _ = read_numbers(sample_weight, "sample_weight", np.float64)
    weights = (given[:] if isinstance(given, ConvertedRows) else given).to("cpu", torch.float64)
    if weights.ndim == 0:
        weights = weights.expand(n_rows).clone()
    if weights.shape != (n_rows,):
        raise InputError(
            f"Sample weights have shape {tuple(weights.shape)}; {n_rows} rows need one weight each, shape ({n_rows},)."
        )
    if not bool(torch.isfinite(weights).all()):
        raise InputError(
            f"sample_weight[{_first(~torch.isfinite(weights))}] is NaN or infinity; weights must be finite."
        )
    if bool((weights < 0).any()):
        first = _first(weights < 0)
        raise InputError(
            f"sample_weight[{first}] is {float(weights[first]):g}; weights must not be negative. "
            "Drop such rows or give them weight 0."
        )
    if not bool((weights > 0).any()):
        raise InputError("Every sample weight is zero; at least one row needs a weight above zero.")
    return weights


def total_weight(weights: Tensor | None, n_rows: int) -> int:
    """W of rule 4: sum of ceil(w) over every row."""
    if weights is None:
        return n_rows
    ceiled = torch.ceil(weights)
    if float(ceiled.sum()) >= 2.0**60:
        return 1 << 60
    return int(ceiled.to(torch.int64).sum())


def _first(mask: Tensor) -> int:
    return int(mask.to(torch.int8).argmax())
