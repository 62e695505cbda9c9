"""Digests: short strings that are equal where answers have the same bits, and differ where they do not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from cosmeans.calls import public
from cosmeans.errors import InputError

_AT_ONCE = 1 << 18  # rows: their words stay in the caches
_LOW = np.uint64(0xFFFFFFFF)
# Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators": SplitMix64
_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def centroids_digest(centroids: Tensor) -> str:
    """SHA-256 of the shape and the bits of centroids (K, D): what labels of new rows depend on."""
    values = centroids.detach().cpu().float().contiguous().numpy()
    return hashlib.sha256(f"{values.shape}".encode() + values.astype("<f4").tobytes()).hexdigest()


def model_digest(centroids: Tensor, similarities: Iterable[float]) -> str:
    """SHA-256 of `centroids_digest` and of the bits of these similarities, as float64."""
    values = np.array([*similarities], dtype="<f8")
    return hashlib.sha256(centroids_digest(centroids).encode() + values.tobytes()).hexdigest()


@public
def label_digest(labels: Any, first_row: int = 0) -> str:
    """A digest of labels (N,) and of the numbers of their rows, 32 hexadecimal digits.

    It is a sum over the rows, so digests of shards add up, in any order: read as numbers, modulo 2^128.
    first_row: the number of the first of these rows among all. Raises InputError unless labels are integers.
    """
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise InputError(
            f"labels must be integers of shape (N,); got {values.dtype} of shape {values.shape}. Pass kmeans.labels_, "
            "or what predict returns."
        )
    total = 0
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE].astype(np.int64).view(np.uint64)
        rows = np.arange(len(part), dtype=np.uint64) + np.uint64((first_row + start) % 2**64)
        total += _sum(_words(rows, part, 1)) + (_sum(_words(rows, part, 2)) << 64)
    return f"{total % 2**128:032x}"


def _words(rows: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    """Word 1 or 2 of the hash of each row's number and label, (B,) uint64."""
    return _mix(_mix(rows + np.uint64(number * _GAMMA % 2**64)) + labels)


def _mix(words: np.ndarray) -> np.ndarray:
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    words ^= words >> np.uint64(31)
    return words


def _sum(words: np.ndarray) -> int:
    """The exact sum of less than 2^32 words: halves can't overflow 64 bits."""
    return int((words & _LOW).sum()) + (int((words >> np.uint64(32)).sum()) << 32)
