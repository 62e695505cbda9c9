"""Files that appear whole or not at all: what a disk that refuses leaves behind, and what is said of it."""

import os

import numpy as np
import pytest

from cosmeans.atomic import new_file
from cosmeans.errors import OutputExistsError, WriteError


def test_a_file_appears_whole(tmp_path):
    with new_file(tmp_path / "new" / "file.txt") as temporary:
        temporary.write_text("whole")
        assert os.listdir(tmp_path / "new") == [temporary.name]

    assert os.listdir(tmp_path / "new") == ["file.txt"]
    assert (tmp_path / "new/file.txt").read_text() == "whole"


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    def write():
        with new_file(tmp_path / "file.txt", force=True) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()

    assert os.listdir(tmp_path) == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_what_exists_is_refused_before_the_block_begins(tmp_path):
    (tmp_path / "file.txt").write_text("old")

    with pytest.raises(OutputExistsError, match="exists already"), new_file(tmp_path / "file.txt"):
        pytest.fail("the block began")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("by_itself", [False, True])
def test_a_full_disk_is_told(tmp_path, by_itself):
    """NumPy writes large arrays by itself, and its error for a short write has no number."""
    with (
        pytest.raises(WriteError, match=r"No space left to write .*file.npy; what was there before is untouched"),
        new_file(tmp_path / "file.npy"),
        open("/dev/full", "wb") as full,
    ):
        np.zeros(200_000).tofile(full) if by_itself else full.write(b"0" * 100_000)

    assert os.listdir(tmp_path) == []
