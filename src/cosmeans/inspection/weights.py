"""Weights of rows, made safe for integer sums (rule 4)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.console import warn
from cosmeans.containers.converted import ConvertedRows
from cosmeans.containers.read import read_numbers
from cosmeans.errors import InputError, WeightRangeWarning

_RANGE = 2.0**-30


def prepare_weights(sample_weight: Any, n_rows: int) -> tuple[Tensor | None, int]:
    """Weights as (N,) float64, times 2^e, and e: weights all below 1 are scaled so that the largest is in [1, 2).

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


def warn_of_range(weights: Tensor | None) -> None:
    """Integer sums reach 2^40 below the heaviest rows: of much lighter ones they keep few digits, or none."""
    if weights is None or not bool((weights > 0).any()):
        return
    least, largest = float(weights[weights > 0].min()), float(weights.max())
    if least < largest * _RANGE:
        ratio = _power_of_ten(math.log10(least) - math.log10(largest))
        warn(
            f"The smallest sample weight is {ratio} of the largest. Sums are exact integers, which keep few digits of "
            "rows lighter than 2^-30 (1e-09) of the heaviest, and none below about 1e-13. Bring the weights closer "
            "together, or give such rows weight 0.",
            WeightRangeWarning,
        )


def _power_of_ten(exponent: float) -> str:
    """10^exponent to two digits, beyond the range of a float, too."""
    exponent = round(exponent, 6)
    return f"{10 ** (exponent % 1):.2g}e{math.floor(exponent):+03d}"


def too_heavy(weights: Tensor | None, total: int) -> str:
    """What to say of weights whose sum is beyond 2^42."""
    if weights is None:
        return f"{total} rows are more than exact sums hold: 2^42 (4.4e12)."
    largest = float(weights.max())
    digits = math.log10(largest) + math.log10(float((weights / largest).sum()))
    power = math.ceil(digits - math.log10(2.0**41))
    return (
        f"The weights sum to about {_power_of_ten(digits)}; exact sums need a total below "
        f"2^42 (4.4e12). Divide all weights by the same number, at least 1e{power:+03d}."
    )


def total_weight(weights: Tensor | None, n_rows: int) -> int:
    """W of rule 4: sum of ceil(w) over every row."""
    if weights is None:
        return n_rows
    ceiled = torch.ceil(weights)
    if float(ceiled.sum()) >= 2.0**60:
        return 1 << 60
    return int(ceiled.to(torch.int64).sum())


def checked_scale(weights: Tensor | None, n_rows: int) -> int:
    """s of rule 4. Raises InputError where the total weight is beyond what integer sums hold."""
    total = total_weight(weights, n_rows)
    scale = sphere.fixed_point_scale(total)
    if scale < sphere.MIN_SCALE:
        raise InputError(too_heavy(weights, total))
    return scale


def masses(weights: Tensor | None, scale: int) -> Tensor | None:
    """term(w, 2^s) of every row, (N,) int64; None: all are 2^s."""
    if weights is None:
        return None
    return sphere.term(weights, torch.full_like(weights, 2.0**scale).to(torch.int64))


def _first(mask: Tensor) -> int:
    return int(mask.to(torch.int8).argmax())
