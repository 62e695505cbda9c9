"""What is loaded, and when: names of the package and the command line load a library when they need it."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cosmeans

HEAVY = {"torch", "sklearn", "numba", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "tqdm"}
COMMAND = """
import json, sys
from contextlib import suppress

from cosmeans.__main__ import main

with suppress(SystemExit):
    main()
sys.stdout = sys.__stdout__
print()
print(json.dumps(sorted(sys.modules)))
"""
NAME = "import json, sys; {}; print(json.dumps(sorted(sys.modules)))"


def loaded(code, arguments=(), **environment):
    """What a child says before its last line, and the modules that it has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    told, _, modules = done.stdout.rstrip().rpartition("\n")
    return told + done.stderr, set(json.loads(modules))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--version", f"cosmeans {cosmeans.__version__}"),
        ("--help", "choose-k"),
        ("fit --help", "--n-clusters"),
        ("fit rows.npy -k 0", "--clusters must be an integer"),
        ("fit rows.npy -k 3 --init kmeans++", "Did you mean 'k-means++'?"),
        ("top --help", "--embedding"),
        ("fit rows.npy", "number of clusters is missing"),
        ("fit rows.npy -k 3 --colour red", "No such option: --colour"),
        ("predict", "Missing argument"),
        ("fly", "No such command"),
        ("demo --rows 5", "--rows has no effect"),
    ],
)
def test_help_and_wrong_usage_load_no_library_of_numbers(line, told):
    said, modules = loaded(COMMAND, line.split())

    assert told in said
    assert HEAVY & modules == set()


def test_completion_loads_no_library_of_numbers():
    words = {"_COSMEANS_COMPLETE": "complete_bash", "COMP_WORDS": "cosmeans fit --dev", "COMP_CWORD": "2"}
    said, modules = loaded(COMMAND, **words)

    assert said.split() == ["--device-memory-limit", "--device"]
    assert HEAVY & modules == set()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("fit --device c", ["cpu", "cuda"]),
        ("fit --init k", ["k-means++"]),
        ("dedup --keep f", ["farthest"]),
        ("exe", ["exemplars"]),
    ],
)
def test_choices_are_completed(typed, expected):
    words = f"cosmeans {typed}"
    count = str(len(words.split()) - 1)
    said, _ = loaded(COMMAND, **{"_COSMEANS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count})

    assert said.split() == expected


def test_the_package_loads_nothing_until_a_name_is_used():
    assert {"cosmeans", "cosmeans.errors"} <= loaded(NAME.format("import cosmeans"))[1]
    assert HEAVY & loaded(NAME.format("import cosmeans; dir(cosmeans); cosmeans.__version__"))[1] == set()


def test_kmeans_costs_torch_and_what_scikit_learn_costs():
    """pandas and pyarrow are scikit-learn's wish, where they are installed."""
    _, modules = loaded(NAME.format("import torch, sklearn.base"))
    _, more = loaded(NAME.format("import cosmeans; cosmeans.KMeans(2); cosmeans.empty_cache()"))

    packages = {name.partition(".")[0] for name in more} - {name.partition(".")[0] for name in modules}
    assert packages & (HEAVY | {"triton", "cuda", "typer", "rich", "jinja2", "IPython", "ipywidgets"}) == set()
    assert not {"tqdm.notebook", "torch._dynamo", "sklearn.metrics"} & (more - modules)


def test_names_that_are_looked_up_are_those_that_type_checkers_see():
    tree = ast.parse(Path(cosmeans.__file__).read_text(encoding="utf-8"))
    table = next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and "MODULES" in ast.dump(n))
    typing = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: statement.module.removeprefix("cosmeans.") for statement in typing.body for alias in statement.names
    }

    assert table == seen
    assert {*seen, "CosmeansError", "CosmeansWarning"} == set(cosmeans.__all__) <= set(dir(cosmeans))
    with pytest.raises(AttributeError, match="has no attribute 'KMean'"):
        cosmeans.KMean  # noqa: B018


def test_errors_of_scikit_learn_are_public_with_the_others():
    from cosmeans import errors

    assert {"NoFitError", "DistinctRowsWarning", "OptionError"} <= set(dir(errors))
    assert errors.NoFitError.__module__ == errors.OptionError.__module__
    with pytest.raises(AttributeError, match="has no attribute 'NoError'"):
        errors.NoError  # noqa: B018
