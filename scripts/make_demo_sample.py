"""Choose the demo's rows from a larger set of embeddings with their texts.

    python scripts/make_demo_sample.py EMBEDDINGS.npy TEXTS.txt.gz src/cosmeans/demo_data --rows 6000

Writes rows.npy (float16) and texts.txt.gz (one a line, same order): a seeded sample without repeats, in the order
of the source. The same source gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=6000)
    arguments = parser.parse_args()

    embeddings = np.load(arguments.embeddings, mmap_mode="r")
    with gzip.open(arguments.texts, "rt", encoding="utf-8") as file:
        texts = file.read().splitlines()
    if len(texts) != len(embeddings):
        raise SystemExit(f"{len(embeddings)} rows, but {len(texts)} texts: they must match line by line.")

    chosen = np.sort(np.random.RandomState(SEED).permutation(len(texts))[: arguments.rows])
    arguments.folder.mkdir(parents=True, exist_ok=True)
    np.save(arguments.folder / "rows.npy", embeddings[chosen].astype(np.float16))
    text = "".join(texts[index] + "\n" for index in chosen)
    # mtime=0: the same bytes every time
    (arguments.folder / "texts.txt.gz").write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))


if __name__ == "__main__":
    main()
