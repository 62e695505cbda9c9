"""The notebooks of the documentation show what their code gives."""

import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "run_notebooks.py"))


@pytest.mark.filterwarnings("default::RuntimeWarning")  # of the kernel's sockets
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_code_gives(path, tmp_path):
    kept = SCRIPT["texts"](nbformat.read(path, 4))

    assert SCRIPT["texts"](SCRIPT["executed"](path, str(tmp_path))) == kept
    assert any(kept)


def test_the_gallery_lists_every_notebook():
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    assert len(NOTEBOOKS) == 3
    assert all(f"notebooks/{path.name}\n" in listed for path in NOTEBOOKS)
