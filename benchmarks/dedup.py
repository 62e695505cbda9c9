"""What de-duplication within clusters finds of what a brute force over all pairs finds.

    python benchmarks/dedup.py EMBEDDINGS.npy [--clusters 100 300 1000] [--threshold 0.95 0.9 0.8] [--dry]

The brute force is plain NumPy: all pairs in float64, block by block. Prints a table and appends each row of it to
benchmarks/results/dedup.jsonl.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from common import keep, parser_of
from cosmeans import KMeans
from cosmeans.analysis.dedup import deduplicate

BLOCK = 1024


def near_pairs(rows: np.ndarray, threshold: float) -> np.ndarray:
    """(P, 2) every pair i < j with a cosine of at least the threshold."""
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = []
    for start in range(0, len(unit), BLOCK):
        cosines = unit[start : start + BLOCK] @ unit[start:].T
        i, j = np.nonzero(cosines >= threshold)
        found.append(np.stack([i + start, j + start], axis=1)[i < j])
    return np.concatenate(found)


def removed_by_all_pairs(pairs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Rows that are near some row closer to its centroid (the lower row at a tie), whatever the clusters."""
    i, j = pairs.T
    i_stays = (scores[i] > scores[j]) | ((scores[i] == scores[j]) & (i < j))
    return np.unique(np.where(i_stays, j, i))


def compare(rows: np.ndarray, pairs: dict[float, np.ndarray], n_clusters: int) -> list[dict[str, float | str]]:
    started = time.perf_counter()
    model = KMeans(n_clusters, epochs=25, random_state=0, verbose=0).fit(rows)
    fit_seconds = time.perf_counter() - started
    records = []
    for threshold, (i, j) in ((threshold, found.T) for threshold, found in pairs.items()):
        started = time.perf_counter()
        found = deduplicate(model, rows, threshold)
        seconds = time.perf_counter() - started
        everything = removed_by_all_pairs(np.stack([i, j], axis=1), model.similarity_)
        together = model.labels_[i] == model.labels_[j]
        records.append(
            {
                "rows": len(rows),
                "clusters": n_clusters,
                "threshold": threshold,
                "pairs": len(i),
                "pairs found": round(float(together.mean()), 4),
                "removed by all pairs": len(everything),
                "removed": len(found.removed),
                "removed found": round(len(np.intersect1d(found.removed, everything)) / max(1, len(everything)), 4),
                "fit s": round(fit_seconds, 2),
                "dedup s": round(seconds, 2),
            }
        )
    return records


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("--clusters", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.95, 0.9, 0.8])
    arguments = parser.parse_args()

    rows = np.load(arguments.embeddings)
    started = time.perf_counter()
    lowest = near_pairs(rows, min(arguments.threshold))
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = np.einsum("ij,ij->i", unit[lowest[:, 0]], unit[lowest[:, 1]])
    pairs = {threshold: lowest[cosines >= threshold] for threshold in arguments.threshold}
    brute_force = time.perf_counter() - started
    print(f"all pairs of {len(rows):,} rows: {brute_force:.1f} s")
    for n_clusters in arguments.clusters:
        for record in compare(rows, pairs, n_clusters):
            print("  ".join(f"{name} {value}" for name, value in record.items()), flush=True)
            record |= {"rows of": arguments.embeddings.name, "all pairs s": round(brute_force, 2)}
            keep("dedup", record, arguments)


if __name__ == "__main__":
    main()
