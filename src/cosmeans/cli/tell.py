"""What the commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cosmeans._estimator.fitted_state import state_of
from cosmeans.cli import clusters, results
from cosmeans.cli.outputs import write_text
from cosmeans.console import say
from cosmeans.estimator import KMeans


def tell_json(record: dict[str, Any]) -> None:
    """One JSON object on stdout, in ASCII."""
    results.put(json.dumps(record) + "\n")


def write_clusters(kmeans: KMeans, texts: list[str], path: Path) -> None:
    """Write a Markdown file with the texts that stand for each cluster."""
    write_text(path, clusters.markdown(clusters.describe(kmeans), texts))


def show_clusters(kmeans: KMeans, texts: list[str]) -> None:
    """The largest clusters with their texts, on stdout."""
    results.show(clusters.table(clusters.describe(kmeans), texts))


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
        "similarity": state_of(kmeans).mean_similarity,
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
