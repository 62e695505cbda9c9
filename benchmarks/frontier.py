"""Quality against time: whole fits of growing length, ours and others', as each would be used by those in a hurry.

    python benchmarks/frontier.py EMBEDDINGS.npy [--clusters 1000] [--rounds 3] [--plot docs/images/frontier.png]
    python benchmarks/frontier.py --plot docs/images/frontier.png      # of the record made last

Every point is a fit of its own with the defaults of its library but for the number of iterations: random or
hierarchical starts, subsampling and early stops are theirs to choose. The plot shows when the centroids of each library
are there ("centroids after"); ours come with the labels of all rows. "seconds" counts the labels of the others, too, by
their own search. SuperKMeans' hierarchical mode ignores the number of iterations, so it is one point. Mean
similarity is computed in float64 over all rows from the centroids that came back. Seconds are the least of the
rounds, in which the ways take turns. Appends a record to benchmarks/results/frontier.jsonl.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common import keep, parser_of
from peers import mean_similarity, versions

Way = Callable[[np.ndarray, int, int], tuple[np.ndarray, Callable[[], object] | None]]
"""rows, clusters, steps: the centroids, and what labels the rows if that is still to do."""


def ours(init: str) -> Way:
    def fit(rows: np.ndarray, clusters: int, epochs: int):
        from cosmeans import KMeans

        kmeans = KMeans(clusters, epochs=epochs, init=init, random_state=0, verbose=0).fit(rows)
        return np.asarray(kmeans.cluster_centers_), None

    return fit


def superkmeans(rows: np.ndarray, clusters: int, iterations: int):
    """Its own hierarchy, sampling and early stop, whatever number of iterations is asked for."""
    from superkmeans import SuperKMeans

    kmeans = SuperKMeans(
        clusters, rows.shape[1], iters=iterations, angular=True, seed=0, n_threads=torch.get_num_threads()
    )
    centroids = np.asarray(kmeans.train(rows))
    return centroids, lambda: kmeans.assign(rows, centroids)


def superkmeans_full(rows: np.ndarray, clusters: int, iterations: int):
    """All rows in every iteration, no hierarchy, no early stop; the pruning by chance bounds remains."""
    from superkmeans import SuperKMeans

    kmeans = SuperKMeans(
        clusters, rows.shape[1], hierarchical=False, iters=iterations, sampling_fraction=1.0,
        max_points_per_cluster=2**31 - 1, n_threads=torch.get_num_threads(), early_termination=False, tol=0.0,
        angular=True, seed=0,
    )  # fmt: skip
    centroids = np.asarray(kmeans.train(rows))
    return centroids, lambda: kmeans.assign(rows, centroids)


def faiss(rows: np.ndarray, clusters: int, iterations: int):
    """With its subsampling: at most 256 rows a cluster."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    kmeans = faiss.Kmeans(rows.shape[1], clusters, niter=iterations, spherical=True, seed=0)
    kmeans.train(rows)
    return kmeans.centroids, lambda: kmeans.index.search(rows, 1)


def mini_batches(rows: np.ndarray, clusters: int, passes: int):
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(
        clusters, batch_size=4096, max_iter=passes, max_no_improvement=None, n_init=1, init="random", random_state=0
    )
    return kmeans.fit(rows).cluster_centers_, None


WAYS: dict[str, tuple[Way, tuple[int, ...]]] = {
    "cosmeans": (ours("random"), (1, 2, 3, 4, 6, 8, 12, 18, 25)),
    'cosmeans, init="nested"': (ours("nested"), (1, 2, 3, 4, 6, 8, 12, 18, 25)),
    "SuperKMeans": (superkmeans, (25,)),
    "SuperKMeans, all rows": (superkmeans_full, (1, 2, 4, 8, 16, 25)),
    "FAISS": (faiss, (1, 2, 4, 8, 16, 25)),
    "MiniBatchKMeans": (mini_batches, (1, 2, 4, 8, 16)),
}

RECORDS = Path(__file__).parent / "results" / "frontier.jsonl"
MARKERS = "osD^vP"
COLOURS = ("#000000", "#0072B2", "#D55E00", "#E69F00", "#CC79A7", "#009E73")  # Okabe and Ito: told apart by everybody


def measure(rows: np.ndarray, clusters: int, rounds: int) -> list[dict]:
    points = [(name, way, steps) for name, (way, lengths) in WAYS.items() for steps in lengths]
    for way, _ in WAYS.values():
        way(rows[: 64 * 40], 64, 1)  # compile, start threads
    seconds: dict[tuple[str, int], list[float]] = {}
    centroids_after: dict[tuple[str, int], list[float]] = {}
    quality: dict[tuple[str, int], float] = {}
    for turn in range(rounds):
        for name, way, steps in points if turn % 2 == 0 else reversed(points):
            started = time.perf_counter()
            centroids, label = way(rows, clusters, steps)
            centroids_after.setdefault((name, steps), []).append(time.perf_counter() - started)
            if label is not None:
                label()
            seconds.setdefault((name, steps), []).append(time.perf_counter() - started)
            quality.setdefault((name, steps), mean_similarity(rows, centroids))
    return [
        {
            "way": name,
            "steps": steps,
            "seconds": min(seconds[name, steps]),
            "all": seconds[name, steps],
            "centroids_after": min(centroids_after[name, steps]),
            "mean_similarity": quality[name, steps],
        }
        for name, _, steps in points
    ]


def draw(record: dict, path: Path) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullFormatter

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, marker, colour in zip(WAYS, MARKERS, COLOURS, strict=True):
        shown = WAYS[name][1]
        found = [p for p in record["points"] if p["way"] == name and p["steps"] in shown]
        points = [(p["centroids_after"], p["mean_similarity"]) for p in found]
        axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=name, markersize=4.5, linewidth=1.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds until the centroids are there (cosmeans: with the labels of all rows)")
    axes.set_ylabel("mean similarity of all rows")
    axes.set_title(f"{record['rows']:,} x {record['features']} embeddings, K = {record['clusters']:,}", loc="left")
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("embeddings", type=Path, nargs="?")
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.embeddings is None:
        if not options.plot:
            parser.error("Pass EMBEDDINGS.npy to measure, or --plot PICTURE.png to draw the last record.")
        draw(json.loads(RECORDS.read_text(encoding="utf-8").splitlines()[-1]), options.plot)
        return
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    rows = torch.nn.functional.normalize(torch.from_numpy(np.load(options.embeddings).astype(np.float32))).numpy()
    record = {"rows": len(rows), "features": rows.shape[1], "clusters": options.clusters}
    record["points"] = measure(rows, options.clusters, options.rounds)
    for point in record["points"]:
        print(f"{point['way']:26} {point['steps']:3} {point['seconds']:7.2f} s  {point['mean_similarity']:.5f}")
    record["versions"] = versions("torch", "numpy", "faiss-cpu", "scikit-learn", "superkmeans")
    if options.plot:
        draw(record, options.plot)
    keep("frontier", record, options)


if __name__ == "__main__":
    main()
