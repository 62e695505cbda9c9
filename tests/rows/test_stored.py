"""What is in the files of a copy comes back as it was, in whatever pieces it was written."""

import numpy as np
import pytest
import torch

from cosmeans.rows.stored import HalvedRows, WholeRows
from generators import heavy_tailed, unit_rows

X = np.concatenate([unit_rows(700, 30), heavy_tailed(300, 30), unit_rows(500, 30, 1)])
LAYOUTS = [WholeRows, HalvedRows]


def written(layout, folder, x, step):
    made = layout(x.shape[1], torch.float32)
    paths = [folder / f"copy{suffix}" for suffix in made.suffixes]
    for start in range(0, len(x), step):
        for path, piece in zip(paths, made.pieces(torch.from_numpy(x[start : start + step])), strict=True):
            with path.open("ab") as file:
                file.write(piece)
    made.map(paths, len(x))
    return made


@pytest.mark.parametrize("step", [1500, 400, 7])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_come_back(layout, step, tmp_path):
    stored = written(layout, tmp_path, X, step)
    for span in (slice(0, 1500), slice(690, 1010), slice(0, 1), slice(1499, 1500), slice(5, 5)):
        assert stored.read(span).numpy().tobytes() == X[span].tobytes()
    for wanted in ([1499, 0, 720, 721, 721], [800], [], list(range(650, 1100)), list(range(0, 1500, 100))):
        assert stored.gather(torch.tensor(wanted, dtype=torch.int64)).numpy().tobytes() == X[wanted].tobytes()


def test_heads_come_with_what_they_lost_and_become_the_rows(tmp_path):
    stored = written(HalvedRows, tmp_path, X, 400)
    heads, lost = stored.heads(slice(600, 900))
    assert heads.dtype is torch.float16
    np.testing.assert_array_equal(heads.numpy(), np.clip(X[600:900], -65504, 65504).astype(np.float16))
    length = np.linalg.norm(X[600:900].astype(np.float64) - heads.numpy(), axis=1)
    finite = length < 3e38
    assert (lost.numpy()[finite] >= length[finite]).all()
    some = torch.tensor([0, 299, 130, 130])
    assert stored.joined(heads[some], some + 600).numpy().tobytes() == X[600:900][some.numpy()].tobytes()


def test_rows_of_which_nothing_is_listed(tmp_path):
    x = np.round(64 * unit_rows(20, 8)) / np.float32(64)
    stored = written(HalvedRows, tmp_path, x, 20)
    assert (tmp_path / "copy.listed").stat().st_size == 0
    assert stored.read(slice(0, 20)).numpy().tobytes() == x.tobytes()


def test_halves_take_little_more_than_the_rows(tmp_path):
    x = unit_rows(1000, 384)
    written(HalvedRows, tmp_path, x, 1000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1.01 * x.nbytes
