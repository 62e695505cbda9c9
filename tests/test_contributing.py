"""The examples of docs/contributing do what the pages say."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import truth
from cosmeans import lloyd
from cosmeans.data import Batch
from cosmeans.errors import OptionError
from cosmeans.options import FitOptions, declared, option
from cosmeans.progress import Silent
from cosmeans.rows import files
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


def test_the_format_of_the_page_is_read_and_its_damage_is_found(tmp_path, monkeypatch):
    function, test = code("format.md")
    monkeypatch.setattr(files, "READERS", dict(files.READERS))
    names = {**vars(files), "pytest": pytest}
    exec(function, names)
    exec(test, names)

    names["test_fvecs"](tmp_path)


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


def test_the_backend_of_the_page_fits_what_the_definition_fits(open_session):
    names = {}
    for block in code("backend.md"):
        exec(block, names)
    x, first = CASES["text"]()
    session = open_session(x, names["Float64Backend"](), n_clusters=len(first))
    options = FitOptions(n_clusters=len(first), epochs=6)

    result, expected = (
        lloyd.fit(session, torch.from_numpy(truth.unit(first)[0]), options, Silent()),
        truth.fit(x, first, 6),
    )

    assert result.centroids.numpy().tobytes() == expected.centroids.tobytes()
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
