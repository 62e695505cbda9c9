"""Labels from screens: which centroids a row may still belong to, proved; the few left are refined.

Everything here speaks of t = <x, c - g> for one vector g shared by all centroids: the largest t has the largest
score, and c - g is shorter than c, which makes every bound tighter (docs/proofs.md, eq. 9 to 11).

A screen gives a product s for each row and column, and what that says of t (`types.Screened`). Columns are distinct
centroids, those that moved most first.
"""

from __future__ import annotations

import numpy as np

from cosmeans.backends.cpu.kernels.canonical import room_for, stride_of, widen
from cosmeans.backends.cpu.kernels.compiling import INNER, INNER_ORDERLESS, JIT, njit
from cosmeans.backends.cpu.kernels.refine import refine_all, refine_close, refine_tied
from cosmeans.backends.cpu.kernels.vectors import above, base_of, dot, squared_chord

_LOWEST = np.int32(-(2**31))  # below the key of every float32
# a row whose first so many candidates mostly can't be told apart gets canonical scores with all its candidates, and so
# does one of which more than so many are left after float32; such rows are taken a few at a time
_MANY, _CLOSE = 16, 4
# a screen whose bounds are so many times wider than the error of a float32 product leaves columns that such a product
# mostly tells apart, for less than chords take
_COARSE = 4
_CHORDS = False  # an argument by position, as compiled loops take them
_CANONICAL = 2.0**-45  # canonical scores of two centroids, 2^-46 each
OPEN = np.int32(-2)  # in place of a label: the head of the row proves none


@njit(**INNER_ORDERLESS)
def _upper(value, j, factor, bias, width, scale, tail):
    """v of one column. numba takes the branch when it compiles, which needs `factor` as an argument of its own."""
    if factor is None:
        return np.float32(value)
    return np.float32(value) * factor[j] * scale + (bias[j] + tail * width[j])


@njit(**INNER_ORDERLESS)
def _key(value):
    """Integers in the order of float32; its own inverse on their bits. Compilers make vectors of their maximum."""
    bits = np.float32(value).view(np.int32)
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@njit(**INNER_ORDERLESS)
def _value(key):
    return np.int32(key ^ ((key >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@njit(**INNER_ORDERLESS)
def _fill_upper(values, screened, scale, tail, upper):
    """v of every column. Returns the largest."""
    top = _LOWEST
    for j in range(values.shape[0]):
        v = _upper(values[j], j, screened.factor, screened.bias, screened.width, scale, tail)
        upper[j] = v
        key = _key(v)
        top = key if key > top else top
    return _value(top)


@njit(**INNER_ORDERLESS)
def _first_of(upper, value):
    """The lowest column with this v."""
    where = np.int32(upper.shape[0])
    for j in range(upper.shape[0]):
        here = np.int32(j) if upper[j] == value else np.int32(upper.shape[0])
        where = here if here < where else where
    return where


@njit(**INNER, inline="always")
def certify_rows(values, width, lowest, which, block, screened, targets, start, stop):
    """Labels and bounds of rows which[start:stop] of a block from products (G, L or more), L = width.

    lowest             what makes a value lose: written over the row's assigned column, whose t is known better
    block, screened    `types.Block`, `types.Screened`
    targets            `targets.Targets`
    Of a head, products alone speak, each off by `block.lost` more: what they leave is OPEN, with a bound of infinity.
    Returns (rows refined by canonical scores, products and chords computed).
    """
    rows, labels, bound = block.rows, block.labels, block.bound
    index = targets.ids
    columns = np.empty(width + 3, np.int32)
    sharp, off = np.empty(width + 2, np.float64), np.empty(width + 2, np.float64)
    upper = np.empty(width, np.float32)
    reaching = np.empty(-(-width // 8) * 8, np.uint8)  # np.zeros takes longer to compile
    for j in range(reaching.shape[0]):
        reaching[j] = np.uint8(0)
    words = reaching.view(np.uint64)
    ordered = targets.ordered
    q = stride_of(rows.shape[1])
    wide, room, score = room_for(1, ordered.shape[1]), room_for(1, q), np.empty(1, np.float64)
    tied, waiting = np.empty(stop - start, np.int32), 0
    candidates = np.empty((stop - start, words.shape[0]), np.uint64)
    refined = dots = 0
    for g in range(start, stop):
        i = which[g]
        assigned = block.column[i]
        scale, tail, slack = screened.scale[i], screened.tail[i], np.float64(screened.slack[i])
        if 0 <= assigned < width:
            values[g, assigned] = lowest
        highest = _fill_upper(values[g, :width], screened, scale, tail, upper)
        top = np.float64(highest)
        floor = block.assigned[i] - targets.error
        if top + slack < floor:
            labels[i] = index[assigned]
            bound[i] = max(block.rest[i], above(top + slack))
            continue
        found, second = 0, -np.inf
        lost = np.float64(block.lost[i])
        if _finite(scale, tail, slack, top, assigned, block.assigned[i]):
            found, tried, second = _survivors(
                upper, highest, slack, reaching, words, rows[i], lost, assigned, block.assigned[i], targets,
                columns, sharp, off,
            )  # fmt: skip
            dots += tried
        if lost > 0.0 and (found == 0 or _best(columns, sharp, off, found)[1] > 1):
            labels[i] = OPEN
            bound[i] = np.inf
            continue
        if found == 0:
            refined += 1
            widen(rows[i], q, wide, 0, 1)
            labels[i] = index[refine_all(wide, q, ordered, index, room, score)]
            bound[i] = np.inf
            continue
        if found < 0:
            candidates[waiting] = words
            tied[waiting] = i
            waiting += 1
            continue
        winner, close = _best(columns, sharp, off, found)
        if close > _CLOSE:
            candidates[waiting] = np.uint64(0)
            _mark(candidates[waiting].view(np.uint8), columns, sharp, off, found)
            tied[waiting] = i
            waiting += 1
            continue
        if close > 1:
            refined += 1
            widen(rows[i], q, wide, 0, 1)
            winner = refine_close(columns, sharp, off, found, wide, q, ordered, index, room, score)
        for n in range(found):
            if columns[n] != winner:
                second = max(second, sharp[n] + off[n] + targets.base_error)
        labels[i] = index[winner]
        bound[i] = max(block.rest[i], above(second))
    if waiting > 0:
        dots += refine_tied(tied[:waiting], candidates, width, block, targets)
    return refined + waiting, dots


@njit(**JIT)
def certify(values, width, lowest, which, block, screened, targets, start, stop):
    """`certify_rows`, to be called from Python."""
    return certify_rows(values, width, lowest, which, block, screened, targets, start, stop)


@njit(**INNER_ORDERLESS)
def _highest_below(upper, least):
    """The largest v below `least`."""
    top = _LOWEST
    for j in range(upper.shape[0]):
        key = _key(upper[j])
        key = key if upper[j] < least else _LOWEST
        top = key if key > top else top
    return _value(top) if top > _LOWEST else np.float32(-np.inf)


@njit(**INNER_ORDERLESS)
def _reach(upper, least, reaching):
    for j in range(upper.shape[0]):
        reaching[j] = upper[j] >= least


@njit(**INNER, inline="always")
def _listed(reaching, words, columns, n):
    """Write the columns that reach the threshold to columns[n:], and what comes of n. No branch for one of them."""
    for word in range(words.shape[0]):
        if words[word] == 0:
            continue
        for j in range(8 * word, 8 * word + 8):
            columns[n] = j
            n += reaching[j]
    return n


@njit(**INNER, inline="always")
def _survivors(upper, highest, slack, reaching, words, row, lost, assigned, value, targets, columns, sharp, off):
    """Columns that may hold the largest t, with a sharp value of theirs; the assigned one is first if there is one.

    t = <x, x/2 - g> + |c|^2 / 2 - |x - c|^2 / 2: what float32 loses of a squared chord is a fraction of it, so chords
    separate the centroids near a row where products can't. Where a coarse screen leaves few columns, products are
    tried before. Writes sharp and off: t is no farther than off from sharp, except for an error that all columns share
    (targets.base_error).
    The column of the highest bound is tried first: it raises the floor that the others must reach.
    row, lost, value: `Block.rows`, `Block.lost`, `Block.assigned`. A head is never compared by chords, nor listed where
    products would leave most.
    reaching: room for a byte a column, the rest 0; words: the same memory, 8 at a time. upper is overwritten.
    Returns (how many, sharp values made, a bound on t of the columns left out); how many: -1 where too many can't be
    separated: all that may win are left in `reaching`.
    """
    coarse = lost > 0.0 or slack > _COARSE * targets.error
    base = 0.0 if coarse else base_of(row, targets.origin)
    found, tried, floor = 0, 0, -np.inf
    if assigned >= 0:
        columns[0], sharp[0], off[0], found = assigned, value + lost, targets.error + lost, 1
        if not coarse:
            _sharpen(row, base, coarse, lost, targets, columns, sharp, off, 0)
            tried = 1
        floor = max(value - targets.error, sharp[0] - off[0] - targets.base_error)
        if assigned < upper.shape[0]:
            upper[assigned] = -np.inf
    first = _first_of(upper, highest)
    if first != assigned and first < upper.shape[0]:
        columns[found] = first
        _sharpen(row, base, coarse, lost, targets, columns, sharp, off, found)
        floor = max(floor, sharp[found] - off[found] - targets.base_error)
        upper[first] = -np.inf
        found, tried = found + 1, tried + 1
    least = np.nextafter(np.float32(floor - slack), np.float32(-np.inf))
    _reach(upper, least, reaching)
    others = np.float64(_highest_below(upper, least)) + slack
    reached = _listed(reaching, words, columns, found)
    if coarse and reached > _MANY:  # products would leave most of them
        if lost > 0.0:
            return 0, tried, others
        coarse, base = False, base_of(row, targets.origin)
        floor, tried = _by_chords(row, base, targets, columns, sharp, off, found, floor), tried + found
    for n in range(found, reached):
        j = columns[n]
        v = np.float64(upper[j])
        if v + slack < floor:
            others = max(others, v + slack)
            continue
        columns[found] = j
        _sharpen(row, base, coarse, lost, targets, columns, sharp, off, found)
        floor = max(floor, sharp[found] - off[found] - targets.base_error)
        found, tried = found + 1, tried + 1
        if not coarse and found == _MANY and _best(columns, sharp, off, found)[1] > _MANY // 2:
            for m in range(found):
                if columns[m] < upper.shape[0]:
                    reaching[columns[m]] = np.uint8(1)
            return -1, tried, others
    if coarse and lost == 0.0 and found > 1 and _best(columns, sharp, off, found)[1] > 1:
        _by_chords(row, base_of(row, targets.origin), targets, columns, sharp, off, found, floor)
        tried += found
    return found, tried, others


@njit(**INNER)
def _by_chords(row, base, targets, columns, sharp, off, found, floor):
    """Values and errors of the first columns from chords. Returns the floor, or what these raise it to."""
    for n in range(found):
        _sharpen(row, base, _CHORDS, 0.0, targets, columns, sharp, off, n)
        floor = max(floor, sharp[n] - off[n] - targets.base_error)
    return floor


@njit(**INNER)
def _sharpen(row, base, coarse, lost, targets, columns, sharp, off, n):
    """Value and error of columns[n]; the error holds what the canonical score of that centroid loses, too.

    coarse: from a product with the column, which is off by `lost` more, else from a chord
    """
    j = columns[n]
    if coarse:
        sharp[n], off[n] = np.float64(dot(row, targets.shifted[j])), targets.error + lost
        return
    squared = np.float64(squared_chord(row, targets.centroids[targets.ids[j]]))
    sharp[n] = base + (targets.halves[j] - 0.5 * squared)
    off[n] = targets.chord_error * squared + _CANONICAL


@njit(**INNER)
def _finite(scale, tail, slack, top, assigned, value):
    """Whether bounds mean anything: a NaN or infinity among a row's numbers certifies nothing.

    value: t of the assigned column. top is -inf where that is the only column. Columns are finite (`strategy`), so what
    spoils one product of a row spoils all.
    """
    if assigned < 0:
        return np.isfinite(scale + tail + slack + top)
    return np.isfinite(scale + tail + slack + value) and top < np.inf


@njit(**INNER)
def _best(columns, sharp, off, found):
    """Column of the largest lower bound, and how many may reach it: one alone if that proves it."""
    where = 0
    for n in range(1, found):
        if sharp[n] - off[n] > sharp[where] - off[where]:
            where = n
    floor = sharp[where] - off[where]
    close = 0
    for n in range(found):
        close += not sharp[n] + off[n] < floor
    return columns[where], close


@njit(**INNER, inline="always")
def _mark(candidate, columns, sharp, off, found):
    """Note which columns may reach the best."""
    floor = -np.inf
    for n in range(found):
        floor = max(floor, sharp[n] - off[n])
    for n in range(found):
        if not sharp[n] + off[n] < floor and columns[n] < candidate.shape[0]:
            candidate[columns[n]] = np.uint8(1)
