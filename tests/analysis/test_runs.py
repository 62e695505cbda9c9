"""Several processes in one folder of runs: each finds what the others finished, none dies of it."""

import os

import numpy as np
import pytest

from cosmeans import KMeans, choose_k
from cosmeans.errors import FileError

ROWS = np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32)


def chosen(folder, **options):
    return choose_k(ROWS, [2, 3, 4], n_seeds=2, folder=folder, verbose=0, **options)


def values(choice):
    return [(run.n_clusters, run.seed, run.similarity, run.silhouette) for run in choice.runs]


@pytest.mark.parametrize("at", [1, 2, 5])
def test_another_process_may_do_the_same_runs_at_the_same_time(tmp_path, monkeypatch, at):
    """The other one does all of them while the first is in its fit number `at`."""
    fit, calls = KMeans.fit, []

    def between(self, *arguments, **options):
        calls.append(self)
        if len(calls) == at:
            others.append(chosen(tmp_path / "runs"))
        return fit(self, *arguments, **options)

    others = []
    monkeypatch.setattr(KMeans, "fit", between)

    first = chosen(tmp_path / "runs")

    assert values(first) == values(others[0]) == values(chosen(None))
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 6
    calls.clear()
    assert values(chosen(tmp_path / "runs")) == values(first)
    assert calls == []


@pytest.mark.parametrize("epochs", [50, 3])
def test_another_process_may_begin_the_folder_at_the_same_time(tmp_path, monkeypatch, epochs):
    """Between the look at the folder and the note in it, another one writes its own."""
    lexists, others = os.path.lexists, []

    def between(path):
        there = lexists(path)
        if not others and str(path).endswith("setup.json"):
            others.append(None)
            others[0] = chosen(tmp_path / "runs")
        return there

    monkeypatch.setattr(os.path, "lexists", between)

    if epochs == 50:
        assert values(chosen(tmp_path / "runs")) == values(others[0])
    else:
        with pytest.raises(FileError, match=r"holds runs on other rows or with other options. Choose another folder"):
            chosen(tmp_path / "runs", epochs=epochs)
