"""Model folders: the same bits back, whole or not at all, and a clear word about every kind of damage."""

import errno
import json
import os
from dataclasses import replace

import pytest
import torch

from cosmeans import atomic, model_file
from cosmeans.errors import FileError, ModelFormatError, OutputExistsError, WriteError
from cosmeans.model_file import TENSORS, VALUES, ModelState, load_model, save_model
from cosmeans.result import History, Iteration, StopReason
from generators import unit_rows


@pytest.fixture
def state():
    return ModelState(
        centroids=torch.from_numpy(unit_rows(5, 3)),
        counts=torch.tensor([3, 0, 2**40, 1, 1]),
        options={"n_clusters": 5, "batch_size": None, "init": "random", "tol": 0.1},
        history=History([Iteration(0.1 + 0.2, 1 / 3, 7, 0, 1.5, 4, 1)]),
        seed=2**62 + 1,
        stop_reason=StopReason.EPOCHS,
        similarity=0.1 + 0.7,
        library="0.1.0",
    )


@pytest.fixture
def saved(tmp_path, state):
    save_model(tmp_path / "model", state)
    return tmp_path / "model"


def test_a_loaded_model_has_the_same_bits(saved, state):
    loaded = load_model(saved)

    assert loaded.centroids.numpy().tobytes() == state.centroids.numpy().tobytes()
    assert loaded.counts.tolist() == state.counts.tolist()
    plain = {"centroids": None, "counts": None}
    assert replace(loaded, **plain) == replace(state, **plain)


def test_a_model_has_two_files_and_no_pickle(saved):
    assert sorted(os.listdir(saved)) == [VALUES, TENSORS]
    assert os.listdir(saved.parent) == ["model"]


def test_an_existing_model_is_kept_without_force_and_replaced_with_it(saved, state):
    other = replace(state, seed=5)

    with pytest.raises(OutputExistsError, match="exists already"):
        save_model(saved, other)
    assert load_model(saved).seed == state.seed
    save_model(saved, other, force=True)

    assert load_model(saved).seed == 5
    assert os.listdir(saved.parent) == ["model"]


def test_force_never_removes_a_folder_that_holds_other_things(tmp_path, state):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(OutputExistsError, match=r"other things than a model \(thesis.txt\)"):
        save_model(tmp_path, state, force=True)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_force_never_replaces_a_file(tmp_path, state):
    (tmp_path / "model").write_text("not a model")

    with pytest.raises(OutputExistsError, match="not a model folder"):
        save_model(tmp_path / "model", state, force=True)


@pytest.mark.parametrize("step", ["os.fsync", "exchange"])
def test_a_failure_while_saving_leaves_the_older_model(saved, state, monkeypatch, step):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"cosmeans.atomic.{step}", full_disk)
    with pytest.raises(WriteError, match=r"No space left to write .*model; what was there before is untouched"):
        save_model(saved, replace(state, seed=5), force=True)
    monkeypatch.undo()

    assert load_model(saved).seed == state.seed
    assert os.listdir(saved.parent) == ["model"]


def test_a_failure_between_the_two_renames_puts_the_older_model_back(saved, state, monkeypatch):
    rename, calls = os.rename, []

    def second_fails(old, new):
        calls.append(new)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(atomic, "exchange", lambda *_: False)  # as on a system that can't
    monkeypatch.setattr(atomic.os, "rename", second_fails)
    with pytest.raises(WriteError, match="the disk reports an input/output error"):
        save_model(saved, replace(state, seed=5), force=True)

    assert len(calls) == 3
    assert load_model(saved).seed == state.seed


def test_no_space_for_the_tensors_is_told_and_leaves_nothing(tmp_path, state, monkeypatch):
    def full_disk(*_):
        raise model_file.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(model_file, "save_file", full_disk)
    with pytest.raises(WriteError, match="No space left on device"):
        save_model(tmp_path / "model", state)

    assert os.listdir(tmp_path) == []


def test_both_files_may_be_read_by_whoever_may_read_new_files(tmp_path, state):
    before = os.umask(0o027)
    try:
        save_model(tmp_path / "model", state)
    finally:
        os.umask(before)

    assert [oct(path.stat().st_mode & 0o777) for path in sorted((tmp_path / "model").iterdir())] == ["0o640", "0o640"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path, state):
    (tmp_path / "file").write_text("")

    with pytest.raises(WriteError, match=r"Can't write .*model: a part of the path is a file"):
        save_model(tmp_path / "file" / "model", state)


def edit(saved, **changes):
    values = json.loads((saved / VALUES).read_text())
    (saved / VALUES).write_text(json.dumps(values | changes))


def test_a_newer_format_is_refused_with_the_way_out(saved):
    edit(saved, format_version=3, library="9.1")

    with pytest.raises(ModelFormatError, match=r"format 3 \(written by cosmeans 9.1\).*pip install --upgrade"):
        load_model(saved)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "other"}, "does not say"),
        ({"format_version": "1"}, "format_version is '1'"),
        ({"n_features": 4}, r"model.json says .*\(5, 4\)"),
        ({"seed": None}, "seed must be an integer from 0 to 2.63 - 1; it is null"),
        ({"stop_reason": "tired"}, "stop_reason must be one of .*tired"),
        ({"history": [{"similarity": 1}]}, r"history\[0\].shift is missing"),
    ],
)
def test_wrong_values_are_damage(saved, changes, reason):
    edit(saved, **changes)

    with pytest.raises(ModelFormatError, match=reason):
        load_model(saved)


@pytest.mark.parametrize("name", [TENSORS, VALUES])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_files_are_damage(saved, name, share):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ModelFormatError, match=f"{name} is damaged"):
        load_model(saved)


def test_one_flipped_bit_is_damage(saved):
    raw = bytearray((saved / TENSORS).read_bytes())
    raw[-1] ^= 1
    (saved / TENSORS).write_bytes(raw)

    with pytest.raises(ModelFormatError, match="differ from the checksum"):
        load_model(saved)


def test_missing_parts_are_named(saved, tmp_path):
    with pytest.raises(FileError, match=r"No model at .*nowhere"):
        load_model(tmp_path / "nowhere")
    (saved / TENSORS).unlink()
    with pytest.raises(ModelFormatError, match=r"model.safetensors is damaged: the file is missing"):
        load_model(saved)
    (saved / VALUES).unlink()
    with pytest.raises(FileError, match=r"model.json is missing"):
        load_model(saved)
