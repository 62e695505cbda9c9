"""The code of the task pages and the examples run as they are printed."""

import doctest
import importlib.util
import inspect
import pkgutil
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from typer.main import get_command

import cosmeans
from cosmeans.cli import app, run
from cosmeans.rows.formats import FORMATS
from files_of import KINDS

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs" / "tasks").glob("*.md")), ROOT / "docs" / "report.md"]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGE_OF_MODULES = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")  # its path, and the heading
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    kinds = set()

    for kind, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        kinds.add(kind)
        if kind == "python":
            exec(compile(code, str(page), "exec"), names)
        else:
            for line in code.splitlines():
                assert run(shlex.split(line)[1:]) == 0, line

    assert kinds == {"python", "console"}
    pyplot.close("all")


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs_and_is_short(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    runpy.run_path(str(script), run_name="__main__")

    assert len(capsys.readouterr().out.splitlines()) >= 3
    assert len(script.read_text(encoding="utf-8").splitlines()) < 60


def test_the_reference_names_everything_public():
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = {entry.rsplit(".", 1)[-1] for entry in re.findall(r"^::: (cosmeans\S*)$", pages, re.MULTILINE)}

    errors = {"CosmeansError", "CosmeansWarning"}  # listed with all others of their module
    assert set(cosmeans.__all__) - {"__version__"} - errors <= listed
    assert all(pkgutil.resolve_name(entry) for entry in re.findall(r"^::: (cosmeans\S*)$", pages, re.MULTILINE))


def public_objects():
    """What the pages of the reference show, by its name."""
    pages = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
    return {name: pkgutil.resolve_name(name) for name in re.findall(r"^::: (cosmeans\S*)$", pages, re.MULTILINE)}


EXAMPLES_IN_DOCSTRINGS = [name for name, each in public_objects().items() if ">>> " in (each.__doc__ or "")]


@pytest.mark.parametrize("name", EXAMPLES_IN_DOCSTRINGS)
def test_the_example_of_a_docstring_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()

    for example in finder.find(inspect.unwrap(public_objects()[name]), name, globs={}):
        runner.run(example)

    assert runner.tries
    assert not runner.failures


def test_what_people_call_first_has_an_example():
    listed = {name.rsplit(".", 1)[-1] for name in EXAMPLES_IN_DOCSTRINGS}
    assert listed >= {"KMeans", "choose_k", "deduplicate", "evaluate", "exemplars", "match", "open_rows", "topics"}


def test_the_reference_of_the_command_line_names_every_flag_of_every_command():
    made = runpy.run_path(str(ROOT / "scripts" / "docs_hooks.py"))["reference"]()

    for name, command in get_command(app).commands.items():
        _, _, section = made.partition(f"## `cosmeans {name}`")
        flags = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}
        assert flags
        assert all(flag in section.partition("\n## ")[0] for flag in flags), name


def test_every_link_of_a_page_leads_to_a_page_and_a_heading():
    for page in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            found = (page.parent / target).resolve() if target else page
            assert found.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in anchors(found.read_text(encoding="utf-8")), f"{page.name} links to {target}#{anchor}"


def anchors(text):
    """The names that headings of a page have in links, as mkdocs and GitHub make them of plain headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_format_of_rows_is_named_where_one_looks_for_it():
    help_of = {name: command.params for name, command in get_command(app).commands.items()}
    helps = [param.help for params in help_of.values() for param in params if param.name == "embeddings"]

    page = (ROOT / "docs" / "tasks" / "your-data.md").read_text(encoding="utf-8")
    assert [suffix for suffix in FORMATS if f"`{suffix}`" not in page] == []
    assert sum(text.startswith("rows: .parquet, .npy") for text in helps) >= 8


def test_each_format_has_a_command_and_a_line_of_python_that_read_it(tmp_path, monkeypatch):
    """As `look` would run it, which reads what the command would read, and by `open_rows`."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tasks" / "your-data.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^\| .* \| `cosmeans fit (\S+) -k 60(.*?)` \| `KMeans\(60\)\.fit\((.*)\)` \|$", page, re.MULTILINE
    )
    by_name = {"rows.h5": "a.h5", "rows.zarr": "three.zarr", "rows.lance": "a.lance", "saved": "saved"}
    x = np.random.default_rng(0).standard_normal((300, 12)).astype(np.float32)

    assert len(lines) == 14
    for name, flags, code in lines:
        make, library = KINDS.get(
            by_name.get(name, "a" + Path(name).suffix), (lambda path, rows: rows.tofile(path), None)
        )
        if library is not None and importlib.util.find_spec(library) is None:
            continue
        make(Path(name), x)
        assert run(["look", name, *shlex.split(flags), "--json"]) == 0, name
        rows = eval(code, {"open_rows": cosmeans.open_rows})
        rows = cosmeans.open_rows(rows) if isinstance(rows, str) else rows
        assert np.array_equal(rows.read(slice(0, 300)).float().numpy(), x), name


def test_the_navigation_holds_every_page_once():
    listed = re.findall(r"^ +- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]

    assert sorted(set(listed) - {"api/cli.md"}) == sorted(pages), "api/cli.md is made by scripts/docs_hooks.py"


def test_no_page_is_longer_than_one_reads_in_a_sitting():
    """Except those that a script or the docstrings fill."""
    pages = [page for page in (ROOT / "docs").rglob("*.md") if page.parent.name not in ("benchmarks", "api")]
    words = {page.relative_to(ROOT).as_posix(): len(page.read_text(encoding="utf-8").split()) for page in pages}

    assert len(words) > 20
    assert {name: count for name, count in words.items() if count > 1500} == {}


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_the_files_that_a_page_on_the_design_names_exist(backend):
    pages = sorted((ROOT / "docs").glob(f"design-{backend}*.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    folder = ROOT / "src" / "cosmeans" / "backends" / backend
    named = re.findall(r"`((?:kernels|screens|rows|replay)/\w*)`", text)

    assert len(named) >= 5
    for name in named:
        assert (folder / name).is_dir() or (folder / f"{name}.py").exists(), name


def test_every_page_and_example_is_found():
    assert [page.stem for page in PAGES] == [
        "batches",
        "choosing-k",
        "comparing",
        "dedup",
        "exploring",
        "interrupted",
        "larger-than-memory",
        "topics",
        "your-data",
        "report",
    ]
    assert {"quickstart", "topics", "dedup", "compare"} <= {script.stem for script in EXAMPLES}


def test_the_table_of_the_architecture_has_every_module_with_its_layer():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = list(reversed(contracts[0]["layers"]))
    expected = {name: level for level, layer in enumerate(layers) for name in layer.split(" | ")}

    listed = {}
    for names, levels in re.findall(r"^\| (`.*?) \|.* \| ([\d, ]+) \|$", PAGE_OF_MODULES, re.MULTILINE):
        modules = re.findall(r"`(\w+)[./]", names)
        numbers = [int(level) for level in levels.split(", ")]
        for place, module in enumerate(modules):
            listed[module] = numbers[place] if len(numbers) > 1 else numbers[0]

    assert listed == expected
