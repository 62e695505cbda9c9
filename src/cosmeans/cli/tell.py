"""What the commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cosmeans.cli import clusters
from cosmeans.cli.outputs import write_text
from cosmeans.estimator import KMeans


def say(line: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(line + "\n")


def tell_json(record: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def show_clusters(kmeans: KMeans, texts: list[str], folder: Path, force: bool, silent: bool) -> str:
    """Write clusters.md with the texts that stand for each cluster, show the largest; returns the path."""
    found = clusters.describe(kmeans)
    path = folder / "clusters.md"
    write_text(path, clusters.markdown(found, texts), force)
    if not silent:
        Console().print(clusters.table(found, texts))
    return str(path)


def tell_fit(kmeans: KMeans, rows: Any, files: dict[str, str], *, as_json: bool, quiet: bool) -> None:
    """The outcome of a fit, as JSON or as a few lines."""
    labels = np.asarray(kmeans.labels_)
    record = {
        "rows": len(labels),
        "features": int(rows.shape[1]),
        "clusters": len(kmeans.cluster_centers_),
        "distinct_centroids": kmeans.n_distinct_,
        "left_out": int((labels < 0).sum()),
        "epochs": kmeans.n_iter_,
        "similarity": kmeans._mean_similarity,
        "seconds": sum(cost.seconds for cost in kmeans.costs_),
        "stop_reason": kmeans.stop_reason_.value,
        "seed": kmeans.random_state_,
        "files": files,
    }
    if as_json:
        tell_json(record)
    elif not quiet:
        say(
            f"{record['rows']:,} rows x {record['features']} in {record['clusters']:,} clusters: "
            f"mean similarity {record['similarity']:.4f} after {record['epochs']} "
            f"epoch{'s' * (record['epochs'] != 1)}. "
            f"{kmeans.stop_reason_.advice}"
        )
        for name, path in files.items():
            say(f"  {name:9} {path}")
