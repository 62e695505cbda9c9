"""What surrounds the package agrees with itself: dependencies, versions, and what runs on other machines."""

import ast
import re
import runpy
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# imported if it happens to be installed, or read by type checkers alone, which bring it
OPTIONAL = {
    "umap": "a finding that is left out without it",
    "typing_extensions": "a default of a type variable",
    "pandas": "what results become for those who have it",
    "polars": "what results become for those who have it",
}
WORKFLOWS = ROOT / ".github" / "workflows"
in_a_checkout = pytest.mark.skipif(not WORKFLOWS.exists(), reason="not part of the source distribution")


def name_of(requirement):
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def imported(path):
    """The top-level modules that a file imports, by statements or by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_every_package_that_is_imported_is_declared():
    extras = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
    declared = {name_of(requirement) for requirement in PROJECT["dependencies"] + extras}
    declared |= {"pillow"} if "matplotlib" in declared else set()
    distributions = {"cuda": ["cuda-bindings"], **packages_distributions()}

    for path in (ROOT / "src").rglob("*.py"):
        for module in set(imported(path)) - sys.stdlib_module_names - {"cosmeans"} - set(OPTIONAL):
            names = {name.lower().replace("_", "-") for name in distributions.get(module, [module])}
            assert names & declared, f"{path.relative_to(ROOT)} imports {module}: declare it in pyproject.toml"


def test_all_is_what_the_commands_need():
    """Every extra but two: lance is large, gpu is for one kind of machine."""
    (whole,) = EXTRAS["all"]
    listed = re.fullmatch(r"cosmeans\[([\w,]+)\]", whole).group(1).split(",")

    assert listed == sorted(set(EXTRAS) - {"all", "lance", "gpu"})


def test_the_command_line_starts_with_its_own_extra():
    assert set(map(name_of, EXTRAS["cli"])) == {"typer", "rich"}


def test_every_extra_that_is_named_is_declared():
    pages = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "src").rglob("*.py")]
    named = {extra: page for page in pages for extra in re.findall(r"cosmeans\[(\w+)\]", page.read_text("utf-8"))}

    assert {"all", "cli", "hdf5", "plot", "remote", "report", "tables"} <= set(named)
    assert {extra: page.name for extra, page in named.items() if extra not in EXTRAS} == {}


def test_an_extra_brings_the_library_that_is_asked_for():
    asked = re.compile(r'needed\("(\w+)", place, "(\w+)"\)')
    found = {call for path in (ROOT / "src").rglob("*.py") for call in asked.findall(path.read_text("utf-8"))}

    assert {extra for _, extra in found} == {"tables", "hdf5", "zarr", "lance", "remote"}
    for module, extra in found:
        assert {"lance": "pylance"}.get(module, module) in map(name_of, EXTRAS[extra])


def test_links_of_the_description_lead_to_the_repository_once_it_has_an_address():
    pytest.importorskip("hatchling")
    absolute_links = runpy.run_path(str(ROOT / "hatch_build.py"))["absolute_links"]
    text = "[a](docs/a.md#b) [web](https://x.org) ![p](docs/p.png) [here](#top)\n```\n[code](docs/a.md)\n```\n"

    assert absolute_links(text, "https://host/name/", "1.2") == (
        "[a](https://host/name/blob/v1.2/docs/a.md#b) [web](https://x.org) ![p](https://host/name/raw/v1.2/docs/p.png) "
        "[here](#top)\n```\n[code](docs/a.md)\n```\n"
    )
    readme = absolute_links((ROOT / "README.md").read_text(encoding="utf-8"), "https://host/name", "1.2")
    paths = re.findall(r"\]\(https://host/name/(?:blob|raw)/v1\.2/([^)#]+)", readme)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert not re.search(r"\]\((?!https?:|#)", re.sub(r"^```.*?^```$", "", readme, flags=re.S | re.M))


@in_a_checkout
def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")

    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert f"\nlicense: {PROJECT['license']}\n" in citation
    assert re.search(
        rf"^## \[{re.escape(PROJECT['version'])}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )


@in_a_checkout
def test_no_python_is_promised_that_is_not_tested():
    """More may be tested than is promised: the first run on another Python is what a promise is made after."""
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    matrix = re.search(r"python: (\[.*\])", (WORKFLOWS / "test.yml").read_text(encoding="utf-8")).group(1)

    assert set(promised) <= set(ast.literal_eval(matrix))
    assert PROJECT["requires-python"] == f">={promised[0]}"


@in_a_checkout
def test_the_demo_installs_only_what_it_needs():
    """Linters, Triton and a compiler for GPUs take gigabytes, and no demo."""
    rules = dict(re.findall(r"^(\$\(\w+\)):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))

    (asked,) = re.findall(r'-e "\.\[([\w,]+)\]"', rules["$(DEMO)"])
    assert set(asked.split(",")) == {"cli", "plot", "report", "tables"}
    assert "--group" not in rules["$(DEMO)"]
    assert '--group dev -e ".[all]"' in rules["$(READY)"]
    assert all("--quiet" not in rule and "echo" in rule for rule in rules.values())
