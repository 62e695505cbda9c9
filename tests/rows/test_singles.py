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


@pytest.mark.linux
def test_a_file_that_has_become_shorter_is_told(tmp_path):
    path = tmp_path / "rows"
    X.tofile(path)
    rows = StoredRows(path, X.dtype, 24)
    os.truncate(path, 1000)
    with pytest.raises(FileError, match="rows has become shorter while it was read"):
        rows.gather(np.array([3, 4000]))
