"""Model folders: the same bits back, whole or not at all, and a clear word about every kind of damage."""

import errno
import hashlib
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from cosmeans import KMeans
from cosmeans.cli.inspect import model_facts
from cosmeans.errors import FileError, InputError, ModelFormatError, OutputExistsError, WriteError
from cosmeans.model_file import TENSORS, VALUES, ModelState, load_model, save_model
from cosmeans.result import History, Iteration, StopReason
from generators import normal, unit_rows
from refusing import without_exchange

STATE = ModelState(
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
def state():
    return STATE


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

    with pytest.raises(OutputExistsError, match="already exists"):
        save_model(saved, other)
    assert load_model(saved).seed == state.seed
    save_model(saved, other, force=True)

    assert load_model(saved).seed == 5
    assert os.listdir(saved.parent) == ["model"]


def test_force_never_removes_a_folder_that_holds_other_things(tmp_path, state):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(OutputExistsError, match=r"files that are not part of a model \(thesis.txt\)"):
        save_model(tmp_path, state, force=True)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_force_never_replaces_a_file(tmp_path, state):
    (tmp_path / "model").write_text("not a model")

    with pytest.raises(OutputExistsError, match="not a model folder"):
        save_model(tmp_path / "model", state, force=True)


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_failure_while_saving_leaves_the_older_model(saved, state, monkeypatch, step):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    without_exchange(monkeypatch)
    monkeypatch.setattr(os, step, full_disk)
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

    without_exchange(monkeypatch)
    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(WriteError, match="the disk reports an input/output error"):
        save_model(saved, replace(state, seed=5), force=True)

    assert len(calls) == 3
    assert load_model(saved).seed == state.seed


@pytest.mark.linux
def test_a_disk_that_does_not_take_the_tensors_is_told_and_leaves_nothing(tmp_path, state):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        with pytest.raises(
            WriteError,
            match=r"Can't write .*model: the file is larger than the file system, or the",
        ):
            save_model(tmp_path / "model", state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert os.listdir(tmp_path) == []


@pytest.mark.linux
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
    edit(saved, format_version=4, library="9.1")

    with pytest.raises(ModelFormatError, match=r"format 4 \(written by cosmeans 9.1\).*pip install --upgrade"):
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


# ---------------------------------------------------------------- values that were read

HUGE, DEEP = 10**400, "[" * 100_000 + "]" * 100_000
WRONG = (None, True, -1, -5.5, HUGE, float("nan"), float("inf"), "x", "", [], [1], {}, {"a": 1}, "\ud800", 2**63, 1e300)
MAY_BE = {  # what of these is right, by the name of the field without its place
    "library": ("x", ""),
    "seed": (),
    "similarity": (-1,),
    "history": ([],),
    "changed": (None,),
    "options": ({}, {"a": 1}),
    **dict.fromkeys(("batch_size", "max_iter", "memory_limit", "random_state"), (None,)),
    **dict.fromkeys(("verbose",), (True,)),
    **dict.fromkeys(("warm_start",), (True,)),
    "device": ("x", "", "\ud800"),
    "tol": (1e300, 2**63),
    "history.imbalance": (2**63,),
}


@pytest.fixture
def real(tmp_path):
    """A model folder of a fit."""
    kmeans = KMeans(5, None, 3, random_state=0, verbose=0, backend="reference").fit(normal(60, 4))
    kmeans.save(tmp_path / "real")
    return tmp_path / "real"


def places(values, path=()):
    """Every place in nested values: the keys that lead there."""
    if path:
        yield path
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            yield from places(value, (*path, key))


def put(values, path, value, delete=False):
    copied = json.loads(json.dumps(values))
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    if delete:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied


def answer(folder):
    """Labels by a model that loads; None where it is refused as damaged, in words that name the file."""
    try:
        kmeans = KMeans.load(folder)
    except FileError as error:
        return None if str(folder) in str(error) else f"an error that names no file: {error}"
    info = model_facts(folder)
    assert info["clusters"] == len(kmeans.cluster_centers_)
    kmeans.verbose, kmeans.device, kmeans.backend = 0, "auto", "reference"
    return kmeans.predict(normal(60, 4)).tobytes()


def test_every_field_of_every_type_is_right_or_named(real):
    values = json.loads((real / VALUES).read_text())
    expected = answer(real)
    for path in places(values):
        name = ".".join(str(key) for key in path if not isinstance(key, int))
        allowed = () if isinstance(path[-1], int) else MAY_BE.get(name, MAY_BE.get(str(path[-1]), ()))
        for value in (*WRONG, "DELETED"):
            if path[-1] in ("format", "format_version"):
                continue  # they say which file this is
            changed = put(values, path, value, delete=value == "DELETED")
            (real / VALUES).write_text(json.dumps(changed))
            in_list = isinstance(path[-1], int)
            if value == "DELETED" and ((path[0] == "options" and len(path) == 2) or in_list):
                assert answer(real) == expected, path
                continue
            if any(type(value) is type(right) and value == right for right in allowed):
                assert answer(real) == expected, (path, value)
                continue
            with pytest.raises(ModelFormatError) as caught:
                pytest.fail(f"{path}: {value!r} gave {load_model(real)}")
            assert str(path[-1]) in str(caught.value) or path[-1] in ("n_clusters", "n_features", "sha256"), (
                path,
                value,
                caught.value,
            )


OTHER = ["", "null", "[]", "3", '"x"', DEEP, '{"a":' * 50_000, '{"a": ' + "9" * 5000 + "}", "NaN"]


@pytest.mark.parametrize("text", OTHER, ids=range(len(OTHER)))
def test_other_json_is_damage(real, text):
    (real / VALUES).write_text(text)

    with pytest.raises(ModelFormatError, match=r"model.json is damaged"):
        load_model(real)


def test_json_that_is_not_utf8_is_damage(real):
    (real / VALUES).write_bytes((real / VALUES).read_bytes().replace(b"cosmeans model", b"cosm\xffns model"))

    with pytest.raises(ModelFormatError, match=r"model\.json is damaged"):
        load_model(real)


def test_unknown_fields_are_ignored_wherever_they_are(real):
    values = json.loads((real / VALUES).read_text())
    expected, plain = answer(real), load_model(real)
    objects = [(), *(path for path in places(values) if isinstance(dig(values, path), dict))]
    assert {len(path) for path in objects} == {0, 1, 2}
    every = values
    for number, path in enumerate(objects):
        for name, value in (("future", {"a": [1, {"b": None}]}), ("", 0), ("seconds", "soon"), ("Ünïcode", [])):
            one = put(values, (*path, name), value)
            every = put(every, (*path, f"{name}{number}"), value)
            for changed in (one, every):
                (real / VALUES).write_text(json.dumps(changed))
                loaded = load_model(real)
                assert replace(loaded, centroids=None, counts=None) == replace(plain, centroids=None, counts=None)
    assert answer(real) == expected


def dig(values, path):
    for key in path:
        values = values[key]
    return values


def test_unknown_tensors_are_ignored(real):
    tensors = safetensors.torch.load_file(real / TENSORS)
    rewrite(real, tensors | {"medoids": torch.zeros(3, dtype=torch.bfloat16)})

    assert load_model(real).centroids.shape == (5, 4)


def rewrite(folder, tensors, **changes):
    """Other tensors, with the checksum that belongs to them."""
    safetensors.torch.save_file(tensors, folder / TENSORS)
    edit(folder, sha256=hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest(), **changes)


def with_row(centroids, row):
    changed = centroids.clone()
    changed[3] = torch.as_tensor(row)
    return changed


TENSOR_DAMAGE = {
    "NaN": (lambda c, n: (with_row(c, float("nan")), n), "centroids: row 3 must have length 1; it is nan"),
    "one NaN": (lambda c, n: (with_row(c, [float("nan"), 1, 0, 0]), n), "centroids: row 3"),
    "infinity": (lambda c, n: (with_row(c, float("inf")), n), "centroids: row 3 must have length 1; it is inf"),
    "zeros": (lambda c, n: (with_row(c, 0.0), n), "centroids: row 3 must have length 1; it is 0"),
    "five times": (lambda c, n: (with_row(c, 5 * c[3]), n), "centroids: row 3 must have length 1; it is 5"),
    "nearly": (lambda c, n: (with_row(c, (1 + 2**-19) * c[3]), n), "centroids: row 3 must have length 1; it is 1.0"),
    "negative counts": (lambda c, n: (c, n - 100), "counts: every cluster must have 0 rows or more"),
    "counts beyond": (lambda c, n: (c, torch.full_like(n, 2**62)), "counts: their sum"),
    "float16": (lambda c, n: (c.half(), n), "it holds .*float16"),
    "int32 counts": (lambda c, n: (c, n.int()), "it holds .*int32"),
    "fewer rows": (lambda c, n: (c[:2].clone(), n), "it holds"),
    "a vector": (lambda c, n: (c[0].clone(), n), "it holds"),
    "no rows": (lambda c, n: (c[:0].clone(), n[:0].clone()), "it holds"),
}


@pytest.mark.parametrize("kind", TENSOR_DAMAGE)
def test_tensors_that_no_fit_leaves_are_named(real, kind):
    change, reason = TENSOR_DAMAGE[kind]
    tensors = safetensors.torch.load_file(real / TENSORS)
    centroids, counts = change(tensors["centroids"], tensors["counts"])
    rewrite(real, {"centroids": centroids, "counts": counts})

    with pytest.raises(ModelFormatError, match=f"model.safetensors is damaged: {reason}"):
        load_model(real)


def test_a_length_that_rule_1_takes_is_taken(real):
    tensors = safetensors.torch.load_file(real / TENSORS)
    rewrite(real, tensors | {"centroids": tensors["centroids"] * (1 + 2**-22)})

    load_model(real)


def test_no_model_without_clusters(real):
    rewrite(real, {"centroids": torch.zeros(0, 4), "counts": torch.zeros(0, dtype=torch.int64)}, n_clusters=0)

    with pytest.raises(ModelFormatError, match="n_clusters must be an integer from 1"):
        load_model(real)


def test_what_is_saved_loads_or_is_refused_before_anything_is_written(tmp_path):
    for change in ({"seed": -1}, {"similarity": float("nan")}, {"options": {"tol": -1}}):
        with pytest.raises(InputError, match=f"{next(iter(change))}.*can't be saved"):
            save_model(tmp_path / "model", replace(STATE, **change))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- version 1


def test_a_model_of_version_1_is_read_for_ever():
    """Written by the last commit that wrote format_version 1, where its fit gave these labels."""
    folder = Path(__file__).parent / "data" / "model-v1"
    assert json.loads((folder / VALUES).read_text())["format_version"] == 1
    rows = (np.arange(360).reshape(60, 6) * 7919 % 1009 - 504).astype(np.float32)
    labels = "110000333422100003334421000033344210000333442110003334421100"

    kmeans = KMeans.load(folder)

    assert "".join(map(str, kmeans.predict(rows))) == labels
    assert kmeans.counts_.tolist() == [21, 9, 6, 15, 9]
    assert kmeans.similarities == [0.7598236795869772, 0.8576525146140506]
    assert [epoch.shift for epoch in kmeans.history_] == [0.69995081247271, 0.0]
    assert (kmeans.random_state_, kmeans.stop_reason_) == (937055941807507096, StopReason.FIXED_POINT)
    assert kmeans.get_params() == KMeans(5, None, 4, random_state=3, verbose=0, tol=0.01).get_params()
    fresh = KMeans(5, None, 4, random_state=3, verbose=0, tol=0.01).fit(rows)
    assert kmeans.cluster_centers_.tobytes() == fresh.cluster_centers_.tobytes()


def test_no_costs_are_stored(real):
    stored = (real / VALUES).read_text()

    assert not [name for name in ("seconds", "settled", "dots", "skipped", "kept_bytes", "int8") if name in stored]


# ---------------------------------------------------------------- damaged bytes


def mutations(draw, raw):
    """One change of some bytes."""
    at = draw.randrange(len(raw))
    match draw.randrange(5):
        case 0:
            return raw[:at] + bytes([raw[at] ^ 1 << draw.randrange(8)]) + raw[at + 1 :]
        case 1:
            return raw[:at] + bytes([draw.randrange(256)]) + raw[at + 1 :]
        case 2:
            return raw[:at]
        case 3:
            end = min(len(raw), at + draw.randrange(1, 40))
            return raw[:at] + raw[end:]
        case _:
            end = min(len(raw), at + draw.randrange(1, 40))
            return raw[:end] + raw[at:end] + raw[end:]


def fuzz(folder, rounds, seed):
    """Changed bytes give an error of ours, or a model that answers as before: the tensors have a checksum."""
    expected, draw = answer(folder), random.Random(seed)
    whole = {name: (folder / name).read_bytes() for name in (VALUES, TENSORS)}
    loaded = 0
    for _ in range(rounds):
        name = VALUES if draw.random() < 0.8 else TENSORS
        changed = mutations(draw, whole[name])
        (folder / name).write_bytes(changed)
        found = answer(folder)
        assert found in (None, expected), changed
        loaded += found is not None
        (folder / name).write_bytes(whole[name])
    assert 0 < loaded < rounds


def test_damaged_bytes_are_told_or_do_no_harm(real):
    fuzz(real, 300, 0)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_damaged_bytes_are_told_or_do_no_harm(real, seed):
    fuzz(real, 20_000, seed)
