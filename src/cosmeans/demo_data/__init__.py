"""Real sentence embeddings with their texts: 6,000 dictionary entries of WordNet 3.0 (LICENSE.txt)."""

from __future__ import annotations

import gzip
from importlib.resources import as_file, files

import numpy as np


def sample() -> tuple[np.ndarray, list[str]]:
    """Rows (6000, 384) float16, made with all-MiniLM-L6-v2, and their texts ("lemma: gloss")."""
    folder = files("cosmeans") / "demo_data"
    with as_file(folder / "rows.npy") as path:
        rows = np.load(path)
    texts = gzip.decompress((folder / "texts.txt.gz").read_bytes()).decode("utf-8")
    return rows, texts.splitlines()
