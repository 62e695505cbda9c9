"""Checkpoints: a fit that is killed at any moment ends, once it is called again, in the bits of one that was not."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmeans import KMeans, StopReason, label_digest, open_rows
from cosmeans.checkpoint import LATEST, PREVIOUS
from cosmeans.cli import run
from cosmeans.errors import FileError, InputError, OptionError, WriteError
from cosmeans.progress import Silent, set_observer

pytestmark = pytest.mark.linux  # children that are killed

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3000, 6)).astype(np.float32)
OPTIONS = {"random_state": 3, "verbose": 0}
STEP = 5  # epochs of a fit that is broken off


def fit(rows=X, k=20, weights=None, **options):
    return KMeans(k, **OPTIONS | options).fit(rows, sample_weight=weights)


def broken_off(folder, after, rows=X, k=20, weights=None, **options):
    """Fit with a checkpoint after every epoch, and end after so many as a killed process does: without a last pass."""

    class Killed(BaseException):
        """Nothing in the package catches it."""

    seen = 0

    class Counts(Silent):
        def iteration(self, iteration, cost):
            nonlocal seen
            seen += 1
            if seen > after:
                raise Killed

    kmeans = KMeans(k, checkpoint=folder, checkpoint_seconds=0, **OPTIONS | options)
    set_observer(kmeans, Counts())
    with pytest.raises(Killed):
        kmeans.fit(rows, sample_weight=weights)


def answer(kmeans):
    """All that must have the same bits."""
    history = [(epoch.similarity, epoch.shift, epoch.moved, epoch.largest) for epoch in kmeans.history_]
    return (
        kmeans.digest(), label_digest(kmeans.labels_), kmeans.inertia_, kmeans.n_iter_, kmeans.stop_reason_,
        kmeans.random_state_, np.asarray(kmeans.counts_).tolist(), np.asarray(kmeans.similarity_).tolist(), history,
    )  # fmt: skip


KINDS = {
    "random": {},
    "n_init": {"n_init": 3},
    "nested": {"init": "nested"},
    "k-means++": {"init": "k-means++"},
    "given": {"init": X[100:120]},
    "tol": {"tol": 0.02},
    "epochs": {"epochs": 9},
    "weights": {"weights": RNG.random(len(X))},
    "lost clusters": {"rows": np.repeat(X[:25], 40, axis=0), "init": np.repeat(X[:4], 5, axis=0)},
    "tensors": {"rows": torch.from_numpy(X)},
    "reference": {"backend": "reference", "epochs": 9},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_that_goes_on_ends_in_the_same_bits(kind, tmp_path):
    options, whole = KINDS[kind], fit(**KINDS[kind])
    after = {"n_init": 60, "lost clusters": 1}.get(kind, STEP)
    broken_off(tmp_path / "at", after, **options)

    resumed = fit(checkpoint=tmp_path / "at", resume=True, **options)

    assert answer(resumed) == answer(whole)
    assert len(resumed.costs_) < len(whole.costs_)


def test_the_best_run_before_the_checkpoint_can_win(tmp_path):
    seed = next(s for s in range(20) if fit(random_state=s).digest() == fit(random_state=s, n_init=3).digest())
    first, whole = fit(random_state=seed), fit(random_state=seed, n_init=3)
    broken_off(tmp_path / "at", first.n_iter_ + STEP, random_state=seed, n_init=3)

    assert answer(fit(random_state=seed, n_init=3, checkpoint=tmp_path / "at", resume=True)) == answer(whole)


def test_rows_of_files_go_on(tmp_path):
    for number in range(2):
        np.save(tmp_path / f"{number}.npy", X[number * 1500 :][:1500])
    rows = open_rows([tmp_path / "0.npy", tmp_path / "1.npy"])
    broken_off(tmp_path / "at", STEP, rows=rows)

    assert answer(fit(rows, checkpoint=tmp_path / "at", resume=True)) == answer(fit())


def test_labels_of_the_epoch_before_are_not_known_to_the_first_epoch_that_follows(tmp_path):
    whole = fit()
    broken_off(tmp_path / "at", STEP)
    resumed = fit(checkpoint=tmp_path / "at")
    changed = [epoch.changed for epoch in whole.history_]

    assert [epoch.changed for epoch in resumed.history_] == [*changed[:STEP], None, *changed[STEP + 1 :]]
    resumed.save(tmp_path / "model")
    assert KMeans.load(tmp_path / "model").history_ == resumed.history_
    resumed.report(X, tmp_path / "page.html")


def test_a_finished_fit_makes_only_the_labels(tmp_path, monkeypatch):
    first = fit(checkpoint=tmp_path / "at")
    again = fit(checkpoint=tmp_path / "at")

    assert answer(again) == answer(first)
    assert again.costs_ == ()


def test_a_model_holds_no_checkpoint(tmp_path):
    for place, options in (("a", {}), ("b", {"checkpoint": tmp_path / "at", "checkpoint_seconds": 7.0})):
        fit(**options).save(tmp_path / place)

    assert (tmp_path / "a/model.json").read_bytes() == (tmp_path / "b/model.json").read_bytes()


def test_a_checkpoint_waits_for_its_time(tmp_path):
    kmeans = KMeans(20, checkpoint=tmp_path / "at", checkpoint_seconds=3600, **OPTIONS).fit(X)

    assert kmeans.n_iter_ > 3
    assert os.listdir(tmp_path / "at") == [LATEST]  # at the stop alone


def test_without_a_seed_that_of_the_checkpoint_is_taken(tmp_path):
    broken_off(tmp_path / "at", STEP, random_state=None)
    resumed = fit(random_state=None, checkpoint=tmp_path / "at", resume=True)

    assert answer(resumed) == answer(fit(random_state=resumed.random_state_))


def test_resume_false_begins_again_and_true_demands_a_checkpoint(tmp_path):
    with pytest.raises(FileError, match=r"^No checkpoint at .*at: latest.safetensors is missing"):
        fit(checkpoint=tmp_path / "at", resume=True)
    with pytest.raises(OptionError, match="resume=True needs checkpoint"):
        fit(resume=True)
    broken_off(tmp_path / "at", STEP, k=7)
    again = fit(checkpoint=tmp_path / "at", resume=False)

    assert answer(again) == answer(fit())
    assert len(again.costs_) == again.n_iter_


def test_a_fit_from_other_first_centroids_begins_again(tmp_path, capsys):
    broken_off(tmp_path / "at", STEP, init=X[:20])
    other = fit(checkpoint=tmp_path / "at", init=X[20:40], verbose=1)

    assert answer(other) == answer(fit(init=X[20:40]))
    assert "belongs to a fit from other first centroids: beginning again" in capsys.readouterr().err
    continued = other.fit(X)
    assert continued.n_iter_ == 1


OTHERS = {
    "K": ({"k": 21}, OptionError, "was written with n_clusters=20, this call says 21"),
    "tol": ({"tol": 0.5}, OptionError, "was written with tol=0.0, this call says 0.5"),
    "seed": ({"random_state": 4}, OptionError, "was written with another random_state"),
    "weights": ({"weights": np.ones(len(X))}, OptionError, "was written with sample_weight=None"),
    "values": ({"rows": X[::-1]}, InputError, "belongs to other rows: their values differ"),
    "rows": ({"rows": X[:-1]}, InputError, "belongs to other rows: they had 3,000 rows and have 2,999"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_fit_is_an_error_and_nothing_is_replaced(kind, tmp_path):
    options, error, words = OTHERS[kind]
    broken_off(tmp_path / "at", STEP)
    before = (tmp_path / "at" / LATEST).read_bytes()

    with pytest.raises(error, match=rf"{words}.*resume=False \(--no-resume\)"):
        fit(checkpoint=tmp_path / "at", **options)

    assert (tmp_path / "at" / LATEST).read_bytes() == before


def test_other_files_are_named(tmp_path):
    np.save(tmp_path / "a.npy", X)
    broken_off(tmp_path / "at", STEP, rows=tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", X[:-1])
    with pytest.raises(InputError, match=r"a\.npy had 72,128 bytes and has 72,104"):
        fit(tmp_path / "a.npy", checkpoint=tmp_path / "at")
    np.save(tmp_path / "a.npy", X[::-1])
    with pytest.raises(InputError, match=r"a\.npy was changed since"):
        fit(tmp_path / "a.npy", checkpoint=tmp_path / "at")


def test_a_flipped_byte_is_found_and_the_one_before_is_whole(tmp_path):
    broken_off(tmp_path / "at", STEP)
    whole = (tmp_path / "at" / LATEST).read_bytes()
    for place in random.Random(0).sample(range(len(whole)), 40):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (tmp_path / "at" / LATEST).write_bytes(flipped)
        with pytest.raises(FileError, match=r"is damaged .*copy .*previous\.safetensors"):
            fit(checkpoint=tmp_path / "at")
    shutil.copy(tmp_path / "at" / PREVIOUS, tmp_path / "at" / LATEST)

    assert answer(fit(checkpoint=tmp_path / "at", resume=True)) == answer(fit())


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    broken_off(tmp_path / "at", STEP)
    before = (tmp_path / "at" / LATEST).read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(WriteError, match="No space left"):
            fit(checkpoint=tmp_path / "at", checkpoint_seconds=0)

    assert (tmp_path / "at" / LATEST).read_bytes() == before
    assert answer(fit(checkpoint=tmp_path / "at", resume=True)) == answer(fit())


CHILD = """
import sys, numpy as np
from cosmeans import KMeans, label_digest
print("begun", flush=True)
X = np.random.default_rng(0).standard_normal((40000, 16)).astype(np.float32)
kmeans = KMeans(64, epochs=40, random_state=0, verbose=0, checkpoint=sys.argv[1], checkpoint_seconds=0).fit(X)
print(kmeans.digest(), label_digest(kmeans.labels_), kmeans.n_iter_, kmeans.stop_reason_, flush=True)
"""


def killed(folder, seconds):
    """The output of a fit that is killed after a time; whole if it was quicker."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "begun\n"
    try:
        return child.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.communicate()
        return None


@pytest.mark.linux
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.soak)])
def test_a_fit_that_is_killed_again_and_again_ends_in_one_answer(kills, tmp_path):
    expected = killed(tmp_path / "whole", 300)
    times, done, number, kept = random.Random(0), 0, 0, 0
    while done < kills:
        folder = tmp_path / f"at{number}"
        while (found := killed(folder, times.uniform(0.3, 3.0)) if done < kills else killed(folder, 300)) is None:
            done += 1
            kept += (folder / LATEST).exists()
        assert found == expected
        assert sorted(os.listdir(folder)) == [LATEST, PREVIOUS]
        number += 1
    assert kept  # it was not always killed before the first epoch


def test_the_command_keeps_a_checkpoint_beside_its_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", X)
    command = ["fit", "rows.npy", "-k", "20", "--seed", "3", "--out", "new"]

    assert run([*command, "--checkpoint", "-q"]) == 0
    assert os.listdir("new.checkpoint") == [LATEST]
    assert run([*command, "--checkpoint-dir", "new.checkpoint", "--resume", "--force"]) == 0
    assert "going on from new.checkpoint" in capsys.readouterr().err
    assert KMeans.load("new/model").digest() == fit().digest()
    assert run([*command, "--checkpoint-dir", "none", "--resume", "--force"]) == 2
    assert "No checkpoint at none" in capsys.readouterr().err
    assert run([*command, "--no-resume", "--force"]) == 2
    assert "--resume has no effect without --checkpoint" in capsys.readouterr().err


def test_a_stop_on_request_is_kept(tmp_path):
    class Stops(Silent):
        def iteration(self, iteration, cost):
            self.stop_requested = True

    kmeans = KMeans(20, checkpoint=tmp_path / "at", checkpoint_seconds=3600, **OPTIONS)
    set_observer(kmeans, Stops())
    assert kmeans.fit(X).stop_reason_ is StopReason.INTERRUPTED

    assert answer(fit(checkpoint=tmp_path / "at", resume=True)) == answer(fit())
