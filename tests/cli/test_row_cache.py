"""The copy that `fit` makes of rows that memory does not hold: beside the output, elsewhere, kept, or none."""

import numpy as np
import pytest

from cosmeans.cli import run
from files_of import KINDS

RNG = np.random.default_rng(0)
X = RNG.standard_normal((9000, 256)).astype(np.float32)


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    KINDS["groups.parquet"][0](tmp_path / "a.parquet", X)

    def run_fit(out, *flags):
        command = ["fit", "a.parquet", "-k", "5", "--epochs", "2", "--out", out, "--memory-limit", "1MB", *flags]
        assert run(command) == 0
        return np.load(tmp_path / out / "labels.npy")

    return run_fit


def copies(folder):
    return sorted(path.suffix for path in folder.iterdir()) if folder.is_dir() else None


def test_a_copy_beside_the_output_goes_at_the_end(fit, tmp_path, capsys):
    labels = fit("one")

    told = capsys.readouterr().err
    assert "memory does not hold the 9.2 MB of decoded rows: they are copied to one.cache" in told
    assert "the copy is removed at the end" in told
    assert copies(tmp_path / "one.cache") is None
    assert np.array_equal(labels, fit("two", "--cache", "off", "-q"))
    assert np.array_equal(labels, fit("three", "--memory-limit", "1GB", "-q"))


def test_a_copy_can_be_kept_and_one_that_was_there_stays(fit, tmp_path):
    first = fit("one", "--cache", "here", "--keep-cache", "-q")
    assert copies(tmp_path / "here") == [".json", ".rows"]
    assert np.array_equal(first, fit("two", "--cache", "here", "-q"))
    assert copies(tmp_path / "here") == [".json", ".rows"]


def test_of_a_named_folder_only_the_copy_goes(fit, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.txt").touch()
    fit("one", "--cache", "here", "-q")
    assert copies(tmp_path / "here") == [".txt"]


def test_a_copy_goes_when_the_fit_fails(fit, tmp_path, capsys):
    bad = X.copy()
    bad[-1, 0] = np.nan
    KINDS["groups.parquet"][0](tmp_path / "a.parquet", bad)
    assert run(["fit", "a.parquet", "-k", "5", "--out", "one", "--memory-limit", "1MB", "-q"]) == 2
    assert "NaN" in capsys.readouterr().err
    assert copies(tmp_path / "one.cache") is None


def test_where_the_disk_is_nearly_full_no_copy_is_made_unless_it_is_asked_for(fit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": X.nbytes + 5, "total": 1 << 30}))
    fit("one")
    assert "copied" not in capsys.readouterr().err
    fit("two", "--cache", "here", "--keep-cache", "-q")
    assert copies(tmp_path / "here") == [".json", ".rows"]


def test_a_model_does_not_remember_the_copy(fit, tmp_path):
    fit("one", "-q")
    stored = (tmp_path / "one" / "model" / "model.json").read_text()
    assert "cache" not in stored
    assert "memory_limit" not in stored


def test_of_rows_that_are_held_in_any_case_no_copy_is_promised(fit, tmp_path, capsys):
    KINDS["groups.parquet"][0](tmp_path / "a.parquet", X[:2000])
    fit("one", "--memory-limit", "1kB")
    assert "copied" not in capsys.readouterr().err
