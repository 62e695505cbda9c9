"""Single rows of a file, read by calls of the system: the same rows as those that are mapped."""

import os

import numpy as np
import pytest

from cosmeans.errors import FileError
from cosmeans.rows.singles import StoredRows

X = np.random.default_rng(0).integers(-(2**15), 2**15, (5000, 24)).astype(np.int16)
WANTED = {
    "few": [4999, 0, 17, 18, 19, 17],
    "one": [2500],
    "none": [],
    "descending": [3000, 2999, 2998, 10],
    "twice in a row": [7, 7, 8, 4000],
    "many": list(range(1000, 2000, 3)),
    "all": list(range(5000)),
}


@pytest.mark.parametrize("calls", [True, False])
@pytest.mark.parametrize("kind", WANTED)
def test_rows_are_those_asked_for(tmp_path, kind, calls):
    path = tmp_path / "rows"
    X.tofile(path)
    rows = StoredRows(path, X.dtype, 24, singly=calls and hasattr(os, "preadv"))
    wanted = np.array(WANTED[kind], np.int64)
    assert np.array_equal(rows.gather(wanted), X[wanted])
    assert np.array_equal(rows.rows, X)


@pytest.mark.parametrize("n_kept", [0, 1, 1000, 2500, 5000])
@pytest.mark.parametrize("step", [700, 1000, 5000])
def test_the_first_rows_are_read_once(tmp_path, n_kept, step):
    """The file gets other rows once all were read; those that stay in memory are still the first ones."""
    path = tmp_path / "rows"
    X.tofile(path)
    rows = StoredRows(path, X.dtype, 24, n_kept=n_kept)
    assert rows.n_bytes_there == 0
    assert np.array_equal(rows.read(slice(4000, 5000)), X[4000:])  # not in order: none is kept
    for start in range(0, 5000, step):
        span = slice(start, min(start + step, 5000))
        assert np.array_equal(rows.read(span), X[span])
    assert rows.n_bytes_there == 48 * n_kept
    with path.open("r+b") as file:
        file.write(bytes(X.nbytes))

    expected = np.where(np.arange(5000)[:, None] < n_kept, X, 0)

    for start in range(0, 5000, step):
        span = slice(start, min(start + step, 5000))
        assert np.array_equal(rows.read(span), expected[span])
    for kind in WANTED.values():
        wanted = np.array(kind, np.int64)
        assert np.array_equal(rows.gather(wanted), expected[wanted])


@pytest.mark.linux
def test_a_file_that_has_become_shorter_is_told(tmp_path):
    path = tmp_path / "rows"
    X.tofile(path)
    rows = StoredRows(path, X.dtype, 24)
    os.truncate(path, 1000)
    with pytest.raises(FileError, match="rows has become shorter while it was read"):
        rows.gather(np.array([3, 4000]))
