"""Variables of the environment stand in for options that are not given; options that are given win."""

import json

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from cosmeans import KMeans
from cosmeans.cli import run
from cosmeans.environment import filled
from cosmeans.errors import BackendUnavailableError, OptionError
from cosmeans.options import FitOptions

ROWS = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
DEFAULTS = FitOptions.defaults()


def fitted(**options):
    return KMeans(3, epochs=2, random_state=0, verbose=0, **options).fit(ROWS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_is_taken_where_none_is_given(monkeypatch, tmp_path):
    monkeypatch.setenv("COSMEANS_DEVICE", "cuda")
    with pytest.raises(BackendUnavailableError, match=r"torch sees none.*\(COSMEANS_DEVICE is set to cuda\.\)"):
        fitted()

    fitted(device="cpu")
    fitted(backend="cpu").save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["options"].get("device", "auto") == "auto"


def test_the_environment_fills_in_defaults_only(monkeypatch):
    assert filled(DEFAULTS) == DEFAULTS
    monkeypatch.setenv("COSMEANS_DEVICE", "cuda:1")
    monkeypatch.setenv("COSMEANS_CACHE", "copies")

    assert filled(DEFAULTS) == DEFAULTS | {"device": "cuda:1", "cache": "copies"}
    given = DEFAULTS | {"device": "cpu", "cache": "mine"}
    assert filled(given) == given
    monkeypatch.setenv("COSMEANS_DEVICE", "")
    monkeypatch.setenv("COSMEANS_CACHE", "off")
    assert filled(DEFAULTS) == DEFAULTS


@pytest.mark.parametrize(("name", "value"), [("COSMEANS_DEVICE", "gpu0"), ("COSMEANS_CACHE", "rows.npy")])
def test_a_bad_value_is_an_error_that_names_the_variable(tmp_path, monkeypatch, capsys, name, value):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    monkeypatch.setenv(name, value)

    with pytest.raises(OptionError, match=f"{name} must .*{value}"):
        fitted()
    assert run(["fit", "rows.npy", "-k", "3", "-q"]) == 2
    assert f"Error: {name} must " in capsys.readouterr().err


def test_a_copy_is_made_in_the_folder_of_the_environment(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).standard_normal((70_000, 32)).astype(np.float32)  # more than is held in any case
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), 32)
    parquet.write_table(pyarrow.table({"v": vectors}), tmp_path / "rows.parquet", row_group_size=1000)
    monkeypatch.setenv("COSMEANS_CACHE", str(tmp_path / "copies"))

    KMeans(3, epochs=3, random_state=0, verbose=0, memory_limit=0, device="cpu").fit(tmp_path / "rows.parquet")

    assert list((tmp_path / "copies").iterdir())


@pytest.mark.parametrize(
    ("variables", "styled"), [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)]
)
def test_tables_have_styles_where_they_are_wanted(tmp_path, monkeypatch, capsys, variables, styled):
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TERM", "xterm")
    np.save("rows.npy", ROWS)

    assert run(["fit", "rows.npy", "-k", "3"]) == 0

    assert ("\x1b[" in capsys.readouterr().out) is styled
