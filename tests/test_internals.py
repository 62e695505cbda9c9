"""Tests look at the package from outside: none replaces a part of it, or uses a name that is its own.

What is replaced instead is the system around it (`refusing.py`), an argument of the function tested, or a public name.
"""

import ast
from pathlib import Path

import pytest

import cosmeans

TESTS = Path(__file__).parent
REPLACING = {"setattr", "delattr", "setitem", "delitem", "patch", "object"}  # of monkeypatch and of unittest.mock
ALLOWED = {
    # (file, what it replaces): why there is no other way
    ("conftest.py", "inspected"): "batches of a few rows in every test; users' are merged up to megabytes",
    ("conftest.py", "module"): "np.empty as modules see it: a compiler must find NumPy's own",
    ("backends/gpu/standins.py", "opening"): "a backend that no option of KMeans chooses: the kernels' interpreter",
    ("checked.py", "fused"): "a processor without the instructions, in a process of its own",
}


def root(node):
    """The name at which an expression begins."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def ours(tree):
    """Names that a file has from the package, all but the public ones."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cosmeans":
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.asname or "cosmeans" for a in node.names if a.name.split(".")[0] == "cosmeans"}
    found -= set(cosmeans.__all__)
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.comprehension)]
    for loop in loops:  # and what stands for each of several
        if isinstance(loop.iter, ast.Tuple | ast.List) and found & set(map(root, loop.iter.elts)):
            found |= {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    return found


def replaced(tree):
    """What of the package a file replaces: (line, name)."""
    names = ours(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", None)) in REPLACING:
            for given in node.args[:1]:
                if isinstance(given, ast.Constant) and str(given.value).split(".")[0] == "cosmeans":
                    yield node.lineno, str(given.value)
                elif root(given) in names or (root(given) == "module" and "sys.modules" in ast.unparse(tree)):
                    yield node.lineno, root(given)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Attribute | ast.Subscript) and root(target) in names:
                yield node.lineno, root(target)


def private(tree):
    """Names of their own that a file imports from modules of the package: (line, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cosmeans":
            yield from ((node.lineno, a.name) for a in node.names if a.name.startswith("_") and a.name != "__main__")


def test_no_test_replaces_a_part_of_the_package_or_imports_what_is_its_own():
    found, used = [], set()
    for path in sorted(TESTS.rglob("*.py")):
        tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(TESTS).as_posix()
        for line, what in [*replaced(tree), *private(tree)]:
            used.add((name, what))
            if (name, what) not in ALLOWED:
                found.append(f"tests/{name}:{line}: {what}")

    assert not found, "take the number as an argument, or let the system fail (tests/refusing.py):\n" + "\n".join(found)
    assert used >= set(ALLOWED), "remove what is no longer needed from the list"


@pytest.mark.parametrize(
    "source",
    [
        "from cosmeans import sphere\nmonkeypatch.setattr(sphere, 'UNIT_TOLERANCE', 0.0)",
        "from cosmeans.cli import outputs\nwith context() as patch:\n    patch.setattr(outputs, 'write_labels', full)",
        "import cosmeans.reading\nmonkeypatch.setattr(cosmeans.reading, 'free_memory', few)",
        "monkeypatch.setattr('cosmeans.analysis.dedup._TILE', 3)",
        "from cosmeans.rows import files\nmonkeypatch.setitem(files.READERS, '.x', read)",
        "from cosmeans import console\nconsole.PATIENCE = 0.0",
        "from cosmeans import console\nconsole.PATIENCE += 1.0",
        "from cosmeans.rows import files\nfiles.READERS['.x'] = read",
        "from cosmeans.backends.session import PlainSession as S\nmock.patch.object(S, 'epochs', work)",
        "def test():\n    from cosmeans.analysis import runs\n    monkeypatch.setattr(runs, 'new_file', between)",
        "from cosmeans import a, b\nfor module in (a, b):\n    patching.setattr(module, 'x', 1)",
        "from cosmeans.cli.inspect import _plain",
    ],
)
def test_a_replacement_is_found(source):
    tree = ast.parse(source)
    assert [*replaced(tree), *private(tree)]


@pytest.mark.parametrize(
    "source",
    [
        "from cosmeans import KMeans\nmonkeypatch.setattr(KMeans, 'fit', fails)",
        "import os\nmonkeypatch.setattr(os, 'fsync', full)",
        "from cosmeans import KMeans\nkmeans = KMeans(3)\nkmeans.tol = 1.0",
        "from cosmeans._estimator.inputs import read_rows",
    ],
)
def test_the_world_around_the_package_may_be_replaced(source):
    tree = ast.parse(source)
    assert not [*replaced(tree), *private(tree)]
