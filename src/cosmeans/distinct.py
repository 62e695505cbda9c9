"""Rows of different content: told apart by fingerprints, proved equal by their bits, never looked at one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cosmeans import sphere
from cosmeans.contracts import RowsByIndex
from cosmeans.errors import InputError

_VALUES_AT_ONCE = 1 << 21  # entries of the rows that are looked at together: 16 MB of int64
_SAME = 2.0**-20  # chord; a copy of a row differs from it by less, in length (rule 1) and in the last bits
_REACH = _SAME * (1.0 + 2.0**-10)  # along any direction, with what rounding adds
_DIRECTIONS = 4  # vectors that are close are close along each of these
_LOOKED_AT = 32  # neighbours along one direction; where there are more, all of them may be close


def block_rows(n_features: int) -> int:
    """Rows that are looked at together where many are: some thousand."""
    return max(64, _VALUES_AT_ONCE // n_features)


def fingerprints(rows: Tensor) -> Tensor:
    """(B,) int64, the same for rows of the same bits: a weighted sum of these, modulo 2^64."""
    weights = np.random.Philox(key=0).random_raw(rows.shape[1]).view(np.int64)
    bits = rows.contiguous().view(torch.int32)
    if rows.device.type == "cpu":  # NumPy adds products as it makes them, torch stores them first
        return torch.from_numpy(np.einsum("ij,j->i", bits.numpy(), weights))
    there = torch.from_numpy(weights).to(rows.device)
    return torch.cat([(part * there).sum(dim=1) for part in bits.split(block_rows(rows.shape[1]))])


class DistinctRows:
    """The first `wanted` different contents among rows that are offered in turn.

    Rows are read in the blocks in which they are offered, since each reading may wait for a device. A fingerprint
    that is new is a new content; a row whose fingerprint is known is compared with the row that has it. Should two
    contents share a fingerprint, all contents are compared in full from there on.

    prints  fingerprints of rows (B, D), as `fingerprints`: equal for rows of the same bits
    """

    def __init__(self, rows: RowsByIndex, wanted: int, prints: Callable[[Tensor], Tensor] = fingerprints) -> None:
        self.rows, self.wanted, self._prints = rows, wanted, prints
        self._places: dict[int, int] = {}  # of the rows taken, by fingerprint
        self._taken: Tensor | None = None  # the rows taken, at the head of (wanted, D)
        self._found = 0
        self._contents: set[bytes] | None = None  # of the rows taken, once fingerprints don't tell them apart

    @property
    def missing(self) -> int:
        return self.wanted - self._found

    def offer(self, indices: np.ndarray) -> None:
        """Take rows in the order of these indices; those left out, and contents taken already, are passed over."""
        index = torch.from_numpy(indices)
        index = index[self.rows.kept(index)]
        if len(index) == 0 or not self.missing:
            return
        values = self.rows.take(index).contiguous()
        new = self._new(values) if self._contents is None else self._new_in_full(values, self._contents)
        self._keep(values, new[: self.missing])

    def _keep(self, values: Tensor, new: np.ndarray) -> None:
        """Put these rows of a block behind those taken. Mostly the first block is all that is needed: no copy."""
        if len(new) == len(values) == self.wanted:
            self._taken = values
        else:
            if self._taken is None:
                self._taken = values.new_empty((self.wanted, values.shape[1]))
            chosen = values[torch.from_numpy(new).to(values.device)]
            self._taken[self._found : self._found + len(new)] = chosen
        self._found += len(new)

    def _new(self, values: Tensor) -> np.ndarray:
        """Which rows of a block have a content that is new, ascending."""
        prints, first, group = np.unique(self._prints(values).cpu().numpy(), return_index=True, return_inverse=True)
        place = np.array([self._places.get(key, -1) for key in prints.tolist()])
        if not self._all_twins(values, first[group], place[group]):
            taken = () if self._taken is None else self._taken[: self._found].cpu().numpy()
            self._contents = {row.tobytes() for row in taken}
            return self._new_in_full(values, self._contents)
        unknown = np.flatnonzero(place < 0)
        unknown = unknown[np.argsort(first[unknown])]
        self._places.update(zip(prints[unknown].tolist(), range(self._found, self._found + len(unknown)), strict=True))
        return first[unknown]

    def _all_twins(self, values: Tensor, first: np.ndarray, place: np.ndarray) -> bool:
        """Whether each row of a block has the bits of the first row that had its fingerprint.

        first, place (B,): which row of the block that is, or where it is among those taken; place -1: it is not.
        """
        known = np.flatnonzero(place >= 0)
        repeated = np.flatnonzero((place < 0) & (first != np.arange(len(first))))
        for rows, others, at in ((known, self._taken, place[known]), (repeated, values, first[repeated])):
            if len(rows):
                assert others is not None  # a place is known once a row is taken
                one, other = (torch.from_numpy(index).to(values.device) for index in (rows, at))
                chosen = values if len(rows) == len(values) else values[one]
                if not torch.equal(chosen.view(torch.int32), others[other].view(torch.int32)):
                    return False
        return True

    def _new_in_full(self, values: Tensor, contents: set[bytes]) -> np.ndarray:
        new = []
        for i, row in enumerate(values.cpu().numpy()):
            content = row.tobytes()
            if content not in contents:
                contents.add(content)
                new.append(i)
        return np.array(new, dtype=np.int64)

    def centroids(self) -> Tensor:
        """(wanted, D): the rows taken, in turn again where they are fewer."""
        if self._taken is None:
            raise InputError("No row can be used as an initial centroid: all are zero, skipped or of weight zero.")
        if self.missing:
            return self._taken[torch.arange(self.wanted, dtype=torch.int64, device=self._taken.device) % self._found]
        return self._taken


def n_distinct(centroids: Tensor) -> int:
    """How many of these unit vectors (K, D) differ: each by a chord above 2^-20 from all that were counted before it.

    That is more than rounding: the mean of many copies of a row, which differs from the row in the last bits, does
    not count as another.
    """
    along = _projections(centroids)
    order = np.argsort(along[:, 0], kind="stable")
    crowd = order[_crowded(along[order])]
    if not len(crowd):
        return len(centroids)
    values = centroids[torch.from_numpy(crowd).to(centroids.device)].cpu()
    return len(centroids) - len(crowd) + _n_apart(values, along[crowd], np.argsort(crowd))


def _projections(values: Tensor) -> np.ndarray:
    """Where vectors (K, D) are along some directions, (K, 4) float64: no two are farther apart there than in full."""
    n_features = values.shape[1]
    directions = _directions(n_features).to(values.device)
    parts = values.split(block_rows(n_features))
    return torch.cat([part.to(torch.float64) @ directions for part in parts]).cpu().numpy()


@lru_cache(maxsize=8)
def _directions(n_features: int) -> Tensor:
    """Unit vectors (D, 4) float64."""
    words = np.random.Philox(key=1).random_raw((n_features, _DIRECTIONS))
    directions = torch.from_numpy((words >> np.uint64(11)).astype(np.float64) - 2.0**52)
    return directions.div(directions.norm(dim=0))


def _crowded(along: np.ndarray) -> np.ndarray:
    """Which of these vectors, sorted along the first direction, have another that may be as close as rounding."""
    crowded = np.zeros(len(along), np.bool_)
    for step in range(1, _LOOKED_AT + 1):
        gaps = np.abs(along[step:] - along[:-step])
        close = (gaps <= _REACH).all(axis=1) if step < _LOOKED_AT else gaps[:, 0] <= _REACH
        crowded[step:] |= close
        crowded[:-step] |= close
        if not (gaps[:, 0] <= _REACH).any():
            break
    return crowded


def _n_apart(values: Tensor, along: np.ndarray, turns: np.ndarray) -> int:
    """`n_distinct` of vectors (M, D) sorted along the first direction, counted in the order of `turns`."""
    starts, stops = (np.searchsorted(along[:, 0], along[:, 0] + reach) for reach in (-_REACH, _REACH))
    left = np.ones(len(values), np.bool_)
    # float64 products leave out most of what is near along the directions; they lose less than the slack
    wide = values.to(torch.float64).numpy()
    lengths, slack = np.einsum("ij,ij->i", wide, wide), values.shape[1] * 2.0**-50
    count = 0
    for i in turns.tolist():
        if not left[i]:
            continue
        count += 1
        span = slice(starts[i], stops[i])
        rough = lengths[span] + lengths[i] - 2.0 * (wide[span] @ wide[i])
        left[i] = False
        near = np.flatnonzero(left[span] & (rough <= _SAME**2 + slack)) + starts[i]
        if not len(near):
            continue
        chords = sphere.squared_chords(values[torch.from_numpy(near)], values[i])
        left[near[chords.numpy() <= _SAME**2]] = False
    return count
