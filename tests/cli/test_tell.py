"""What commands say at their end: nothing with --quiet, one JSON object with --json, a screenful otherwise."""

import json
import os
import shutil

import numpy as np
import pytest
import typer

from cosmeans import KMeans
from cosmeans.cli import app, run

COMMANDS = {
    "fit": "fit rows.npy -k 4 --out new",
    "predict": "predict model rows.npy",
    "plot": "plot model",
    "demo": "demo --tutorial --rows 300 --clusters 3 --epochs 2",
    "look": "look rows.npy",
    "info": "info model",
    "choose-k": "choose-k rows.npy --ks 2,3 --seeds 1",
    "evaluate": "evaluate model rows.npy",
    "match": "match model model --embeddings rows.npy --out match.json",
    "outliers": "outliers model rows.npy",
    "exemplars": "exemplars model rows.npy",
    "dedup": "dedup model rows.npy",
    "top": "top model rows.npy",
    "report": "report model rows.npy",
    "export": "export model rows.npy --projection pca",
}


def ran(line):
    return run(line.split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(3).standard_normal((200, 8)).astype(np.float32)
    np.save("rows.npy", rows)
    KMeans(4, random_state=7, verbose=0).fit(rows).save("model")
    return tmp_path


def test_every_command_is_tried():
    assert set(typer.main.get_command(app).commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_quiet_says_nothing_and_json_one_object(folder, capfd, name):
    assert run([*COMMANDS[name].split(), "-q"]) == 0
    assert capfd.readouterr() == ("", "")

    force = [] if name in ("look", "info", "choose-k", "evaluate") else ["--force"]
    assert run([*COMMANDS[name].split(), "--json", *force]) == 0
    assert isinstance(json.loads(capfd.readouterr().out), dict)


def test_the_seed_that_was_given_is_shown_with_the_one_that_came_of_it(folder, capsys):
    seed = KMeans(4, random_state=5, verbose=0).fit(np.load("rows.npy")).random_state_
    assert ran("fit rows.npy -k 4 --seed 5 --out new --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert ran("info new --json") == 0
    of_model = json.loads(capsys.readouterr().out)
    history = json.loads((folder / "new" / "history.json").read_text())

    for record in (told, of_model, history):
        assert (record["random_state"], record["seed"]) == (5, seed)
    assert ran("fit rows.npy -k 4 --seed 5 --out again") == 0
    assert ", seed 5. " in capsys.readouterr().err


def test_numbers_of_a_model_have_four_digits(folder, capsys):
    assert ran("info model") == 0

    facts = [line.split() for line in capsys.readouterr().out.splitlines()]
    (similarity,) = (fact[-1] for fact in facts if fact[0] == "similarity")
    assert len(similarity) == len("0.1234")


@pytest.mark.parametrize("lines", [10, 24, 100])
def test_a_fit_shows_a_screenful_of_clusters(folder, capsys, monkeypatch, lines):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((80, lines)))
    assert ran("fit rows.npy -k 40 --out new") == 0

    told = capsys.readouterr()
    table, size = told.out.splitlines(), np.bincount(np.load("new/labels.npy"))
    shown = [int(line.split()[1]) for line in table[1:-1]]
    assert shown == sorted(size.tolist(), reverse=True)[: len(shown)]
    assert len(shown) == {10: 5, 24: 10, 100: 20}[lines]
    assert table[-1] == f"and {40 - len(shown)} smaller clusters with {200 - sum(shown)} rows"
