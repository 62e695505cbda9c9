"""Arrays that end, or begin, where memory ends: whatever reads or writes beyond them ends the process.

What is written as LLVM's instructions (`registers`) is not checked by numba, so it is called on such arrays here; and
whole fits have rows that are such an array.

    python guarded.py       says what is done; at last it reads beyond an array, which must end it
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

NOTHING = 0  # PROT_NONE


def guarded(array, at_end=True):
    """A copy with an unreadable page on either side, directly after its last entry or before its first one."""
    page = mmap.PAGESIZE
    room = -(-max(1, array.nbytes) // page) * page
    region = mmap.mmap(-1, room + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    for address in (start, start + page + room):
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(page), NOTHING):
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = page + (room - array.nbytes if at_end else 0)
    out = np.frombuffer(region, array.dtype, array.size, offset).reshape(array.shape)
    out[...] = array
    return out


def multipliers():
    """What multiplies in registers here: its name, a compiled call of it, the type of rows, columns and sums."""
    from numba import njit

    from cosmeans.backends.cpu.kernels import fused

    @njit
    def of_bytes(rows, packed, which, width, values):
        fused.multiply_bytes(rows, packed, which, width, values)

    @njit
    def of_shorts(rows, packed, which, width, values):
        fused.multiply_shorts(rows, packed, which, width, values)

    @njit
    def of_floats(rows, packed, which, width, values):
        fused.multiply_floats(rows, packed, which, width, values)

    if fused.multiplies_bytes(4):
        yield "bytes", of_bytes, np.int8, np.int32, (4, 100, 384)
    if fused.multiplies_shorts(2):
        yield "shorts", of_shorts, np.int16, np.int32, (2, 90, 384)
    if fused.multiplies_floats():
        yield "floats", of_floats, np.float32, np.float32, (1, 33, 384)


def products(name, multiply, entry, total, features):
    """Every shape of a tile, with rows, panels, indices and sums between unreadable pages."""
    from cosmeans.backends.cpu.kernels import fused

    rng = np.random.default_rng(0)
    for d in features:
        rows = rng.integers(-100, 101, (40, d)).astype(entry)
        for width in (1, 15, 16, 17, 33, 48, 64, 65, 130):
            columns = rng.integers(-100, 101, (width, d)).astype(entry)
            packed, exact = fused.panels(columns), rows.astype(np.int64) @ columns.astype(np.int64).T
            for which in ([39], [0, 39], [39, 3, 4, 5, 0, 39], [0, 1, 2, 3, 4, 5, 39]):
                values = np.zeros((-(-len(which) // 6) * 6, -(-width // 16) * 16), total)
                for end in (True, False):
                    given = [guarded(part, end) for part in (rows, packed, np.array(which, np.int32))]
                    out = guarded(values, end)
                    multiply(*given, width, out)
                    np.testing.assert_array_equal(out[: len(which), :width], exact[which], err_msg=f"{name}, {d}")


def scores():
    """Canonical scores of one and of some rows, with all that they read, write and work in between such pages."""
    from numba import njit

    import truth
    from cosmeans.backends.cpu.kernels import canonical
    from generators import unit_rows

    some = canonical.TOGETHER

    @njit
    def widened(rows, q, wide):
        for r in range(rows.shape[0]):
            canonical.widen(rows[r], q, wide, r, rows.shape[0])

    @njit
    def score(together, wide, centroid, q, leaves, room, out):
        if together:
            canonical.score_some(wide, centroid, q, leaves, room, out)
        else:
            canonical.score_one(wide, centroid, q, leaves, room, out)

    for d in (1, 28, 100, 129, 384, 1000):
        x, centroids = unit_rows(some, d), unit_rows(3, d, 1)
        ordered, exact, q = canonical.ordered(centroids), truth.scores(x, centroids), canonical.stride_of(d)
        for end in (True, False):
            for rows in (x[:1], x):
                wide, room = guarded(np.zeros(len(rows) * ordered.shape[1]), end), guarded(np.zeros(len(rows) * q), end)
                widened(guarded(rows, end), q, wide)
                for j in range(3):
                    out = guarded(np.zeros(len(rows)), end)
                    score(len(rows) > 1, wide, guarded(ordered[j], end), q, ordered.shape[1] // q, room, out)
                    np.testing.assert_array_equal(out, exact[: len(rows), j], err_msg=f"{d}")


def beyond(multiply, entry, total, features):
    """The row after the last one: this must not come back."""
    from cosmeans.backends.cpu.kernels import fused

    rows, packed = guarded(np.ones((40, features[-1]), entry)), fused.panels(np.ones((16, features[-1]), entry))
    multiply(rows, packed, np.array([40], np.int32), 16, np.zeros((6, 16), total))


def fits():
    """Whole fits whose rows are between unreadable pages, and what is asked of rows afterwards."""
    import torch

    from cosmeans import KMeans
    from generators import unit_rows

    for n, d, k in ((1100, 28, 33), (300, 5, 7)):
        x = unit_rows(n, d)
        for strategy in ("float32", "pca", "int8"):
            for end in (True, False):
                rows = torch.from_numpy(guarded(x, end))
                kmeans = KMeans(k, strategy=strategy, init=x[:k].copy(), epochs=2, verbose=0).fit(rows)
                kmeans.transform(rows[-5:])


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    say("fits")
    fits()
    say("scores")
    scores()
    ways = list(multipliers())
    for way in ways:
        say(way[0])
        products(*way)
    say("beyond")
    for way in ways[:1]:
        beyond(*way[1:])
        say("came back")


if __name__ == "__main__":
    main()
