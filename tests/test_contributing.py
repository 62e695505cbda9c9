"""The examples of docs/contributing do what the pages say."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import truth
from cosmeans import lloyd, scoring
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.data import Batch
from cosmeans.errors import FileError, OptionError
from cosmeans.options import FitOptions, declared, option
from cosmeans.progress import Silent
from generators import CASES
from test_options import written

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "contributing"


def code(page, kind="python"):
    text = (FOLDER / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["backend.md", "format.md", "option.md"])
def test_every_file_of_a_page_exists(page):
    text = (FOLDER / page).read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([\w./]+\.(?:py|md|toml))`", text) if "/" in name and "NAME" not in name]

    assert len(named) >= 4
    for name in named:
        assert any((base / name).exists() for base in (ROOT, ROOT / "src" / "cosmeans")), name


def test_the_option_of_the_page_is_checked_and_written_as_it_says():
    (field,) = code("option.md")
    message, _, row = code("option.md", "text")
    body = {"__annotations__": {"max_seconds": float}, "__module__": __name__}
    exec(field, {"option": option}, body)

    added = declared(dataclass(frozen=True, kw_only=True)(type("Options", (FitOptions,), body)))["max_seconds"]

    with pytest.raises(OptionError) as error:
        added.plain(-1)
    assert f"{error.value}\n" == message
    assert added.plain(np.float32(2)) == 2.0
    assert f"| `max_seconds` | {added.takes} | `{written(added.default)}` | `--max-seconds` | {added.help} |\n" == row
    assert f"max_seconds : {added.takes}, default {written(added.default)}. " in code("option.md", "text")[1]


def test_the_format_of_the_page_is_read_and_its_damage_is_found(tmp_path):
    names = {"pytest": pytest, "FileError": FileError}
    for block in code("format.md"):
        exec(block, names)

    names["test_f32"](tmp_path)


@pytest.mark.parametrize("case", CASES)
def test_the_backend_of_the_page_finds_every_label(case):
    names = {}
    exec(code("backend.md")[0], names)
    x, first = CASES[case]()
    centroids, (units, keep) = truth.unit(first)[0], truth.unit(x)
    batch = Batch(0, torch.from_numpy(units), keep=torch.from_numpy(keep))

    found = names["assign"](batch, torch.from_numpy(centroids), torch.full((len(x),), -1, dtype=torch.int32))

    np.testing.assert_array_equal(found.labels.numpy(), truth.labels(units, centroids, keep))
    assert found.labels.dtype == torch.int32


@pytest.mark.parametrize("case", ["random", "any lengths", "text", "zero rows", "one ulp apart", "many lost"])
def test_the_backend_of_the_page_fits_what_the_reference_and_the_definition_fit(case, open_session):
    names = {}
    for block in code("backend.md"):
        exec(block, names)
    x, first = CASES[case]()
    weights = np.random.default_rng(0).integers(1, 4, len(x))
    answers = []
    for backend in (names["Float64Backend"](), ReferenceBackend()):
        session = open_session(x, backend, weights, len(first), batch_size=90)
        options = FitOptions(n_clusters=len(first), epochs=6)
        result = lloyd.fit(session, torch.from_numpy(truth.unit(first)[0]), options, Silent())
        own, inertia = scoring.own_chords(session, result.centroids, result.labels)
        values = [value.numpy().tobytes() for value in (result.labels, result.centroids, result.counts, own)]
        answers.append((values, inertia, result.similarity, list(result.history), result.stop_reason))
        assert torch.equal(session.assign(result.centroids), result.labels)

    expected = truth.fit(x, first, 6, weights)

    assert answers[0] == answers[1]
    assert answers[0][0][1] == expected.centroids.tobytes()
    np.testing.assert_array_equal(result.labels.numpy(), expected.labels)


def test_contributing_is_short_and_names_what_make_can_do():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    goals = re.findall(r"^    make (\w+)", text, re.MULTILINE)

    assert len(text.splitlines()) < 70
    assert sorted(goals) == sorted(
        re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    )
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] in (
        ROOT / "CHANGELOG.md"
    ).read_text(encoding="utf-8")
