"""Execute the notebooks of the documentation and keep what they show: python scripts/run_notebooks.py

Needs nbclient and ipykernel. Run it when a result or a repr changes; a test compares the texts that are kept.
"""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"


def executed(path: Path, folder: str) -> Any:
    """The notebook with new outputs; its code runs in `folder`."""
    book = nbformat.read(path, 4)
    NotebookClient(book, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)  # times
        for out in cell.get("outputs", ()):
            data = out.get("data", {})
            if "image/png" in data:
                data["image/png"] = smaller(data["image/png"])
    return book


def smaller(picture: str) -> str:
    """A PNG in base64 with 64 colours, which is enough for a plot."""
    made = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(64).save(made, "PNG", optimize=True)
    return base64.b64encode(made.getvalue()).decode()


def texts(book: Any) -> list[str]:
    """What its cells show, as text: every output but pictures and pages."""
    shown = [out for cell in book.cells for out in cell.get("outputs", ())]
    return [out.get("text", "") or out.get("data", {}).get("text/plain", "") for out in shown]


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, folder), path)
        print(path)
