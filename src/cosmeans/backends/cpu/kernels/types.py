"""What compiled loops are given as one argument each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """Rows that are assigned together.

    rows      (B, D) float32, unit rows, or heads of them
    lost      (B,) float32: a product with a head is off by so much more from t of the row; 0: this is the row
    column    (B,) int32: the column of the centroid that each row is assigned to, -1 if there is none
    assigned  (B,) float64: t of that column less `lost`, off by `Targets.error`, and by `lost` from t less `lost`
    rest      (B,) float32: an upper bound of t over the columns that the row need not meet
    labels    (B,) int32, bound (B,) float32: what is found; `certify.OPEN` where a head proves no label
    """

    rows: np.ndarray
    lost: np.ndarray
    column: np.ndarray
    assigned: np.ndarray
    rest: np.ndarray
    labels: np.ndarray
    bound: np.ndarray


class Screened(NamedTuple):
    """What products s say of t: t_ij <= v_ij + slack_i, v_ij = s_ij factor_j scale_i + bias_j + tail_i width_j.

    factor, bias, width  (U,) float32, or three times None: v is s
    scale, tail, slack   (B,) float32
    """

    factor: np.ndarray | None
    bias: np.ndarray | None
    width: np.ndarray | None
    scale: np.ndarray
    tail: np.ndarray
    slack: np.ndarray
