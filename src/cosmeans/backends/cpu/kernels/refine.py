"""Rows that no screen can decide: canonical scores with all centroids, with the few still possible, or many at once."""

from __future__ import annotations

import numpy as np

from cosmeans.backends.cpu.kernels.canonical import TOGETHER, room_for, score_one, score_some, stride_of, widen
from cosmeans.backends.cpu.kernels.compiling import INNER, njit
from cosmeans.backends.cpu.kernels.vectors import above, dot

_GROUP, _COLUMNS = 32, 32  # rows and columns that stay in the nearest caches while they meet


@njit(**INNER, inline="always")
def _better(score, j, best, winner, index):
    """Whether column j beats the winner so far, -1 for none: by its score, or as the lower centroid."""
    return score > best or (score == best and (winner < 0 or index[j] < index[winner]))


@njit(**INNER)
def refine_all(wide, q, centroids, index, room, score):
    """Column of the largest canonical score of all; the lowest centroid at a tie. A column even if no score is one."""
    best, winner = -np.inf, -1
    for j in range(index.shape[0]):
        score_one(wide, centroids[index[j]], q, centroids.shape[1] // q, room, score)
        if _better(score[0], j, best, winner, index):
            best, winner = score[0], j
    return max(winner, 0)


@njit(**INNER, inline="always")
def refine_close(columns, sharp, off, found, wide, q, centroids, index, room, score):
    """Column of the largest canonical score among those that may reach the best; the lowest centroid at a tie.

    sharp, off: values and their errors; wide: the row as `canonical.widen` leaves it
    """
    floor = -np.inf
    for n in range(found):
        floor = max(floor, sharp[n] - off[n])
    best, winner = -np.inf, -1
    for n in range(found):
        if not sharp[n] + off[n] < floor:
            j = columns[n]
            score_one(wide, centroids[index[j]], q, centroids.shape[1] // q, room, score)
            if _better(score[0], j, best, winner, index):
                best, winner = score[0], j
    return max(winner, 0)


@njit(**INNER)
def _in_order(candidates, size, width):
    """Places of rows by their first candidate: neighbours have much the same ones, if there are few."""
    first = np.empty(size, np.int32)
    count = np.empty(width + 2, np.int32)
    for j in range(width + 2):
        count[j] = 0
    for n in range(size):
        bytes_of = candidates[n].view(np.uint8)
        j = 0
        while j < width and bytes_of[j] == 0:
            j += 1
        first[n] = j
        count[j + 1] += 1
    for j in range(width + 1):
        count[j + 1] += count[j]
    order = np.empty(size, np.int32)
    for n in range(size):
        order[count[first[n]]] = n
        count[first[n]] += 1
    return order


@njit(**INNER)
def refine_tied(which, candidates, width, block, targets):
    """Labels and bounds of some rows from canonical scores with their candidates, and their assigned column.

    candidates  (., width / 8) uint64: a byte for each of the first `width` columns
    A group of rows meets the columns of one panel after another, a few rows at a time, with every candidate of any of
    those: what is none of a row can't win, so nothing is lost. Returns how many scores there were.
    """
    shifted, centroids, index, error = targets.shifted, targets.ordered, targets.ids, targets.error
    rows = block.rows
    q, size = stride_of(rows.shape[1]), centroids.shape[1]
    wide, room = room_for(_GROUP, size), room_for(TOGETHER, q)
    score, best, winner = np.empty(TOGETHER), np.empty(_GROUP), np.empty(_GROUP, np.int32)
    order = _in_order(candidates, which.shape[0], width)
    scores = 0
    for first in range(0, which.shape[0], _GROUP):
        group = order[first : first + _GROUP]
        last = group.shape[0] - 1
        for g in range(0, group.shape[0], TOGETHER):
            part = wide[g * size : (g + TOGETHER) * size]
            for r in range(TOGETHER):
                widen(rows[which[group[min(g + r, last)]]], q, part, r, TOGETHER)
                best[g + r], winner[g + r] = -np.inf, -1
        for panel in range(0, width, _COLUMNS):
            for g in range(0, group.shape[0], TOGETHER):
                part = wide[g * size : (g + TOGETHER) * size]
                for word in range(panel // 8, min(panel + _COLUMNS, width + 7) // 8):
                    some = candidates[group[g], word]
                    for r in range(1, TOGETHER):
                        some |= candidates[group[min(g + r, last)], word]
                    j = 8 * word
                    while some != 0:
                        if some & np.uint64(0xFF):
                            score_some(part, centroids[index[j]], q, size // q, room, score)
                            scores += TOGETHER
                            for r in range(TOGETHER):
                                if _better(score[r], j, best[g + r], winner[g + r], index):
                                    best[g + r], winner[g + r] = score[r], j
                        some >>= np.uint64(8)
                        j += 1
        for g in range(group.shape[0]):
            i = which[group[g]]
            j = block.column[i]
            if j >= width:  # its assigned column is none of the first ones
                widen(rows[i], q, wide[:size], 0, 1)
                score_one(wide, centroids[index[j]], q, size // q, room, score)
                scores += 1
                if _better(score[0], j, best[g], winner[g], index):
                    winner[g] = j
            winner[g] = max(winner[g], 0)  # a column even if no score is one
            block.labels[i] = index[winner[g]]
            # no other t is above the winner's but by what canonical scores lose, which is a part of the error
            block.bound[i] = max(block.rest[i], above(np.float64(dot(rows[i], shifted[winner[g]])) + error))
    return scores
