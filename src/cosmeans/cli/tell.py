"""What the commands say: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from cosmeans._estimator.fitted_state import state_of
from cosmeans.cli import clusters, results
from cosmeans.cli.outputs import given_seed, write_text
from cosmeans.console import say
from cosmeans.digests import label_digest
from cosmeans.estimator import KMeans
from cosmeans.page.keywords import distinctive_words

_FEWEST, _MOST = 5, 20  # clusters that are shown
_OTHER_LINES = 14  # of the screen: what is told besides


def tell_json(record: dict[str, Any]) -> None:
    """One JSON object on stdout, in ASCII."""
    results.put(json.dumps(record) + "\n")


def write_clusters(kmeans: KMeans, texts: list[str], path: Path) -> None:
    """Write a Markdown file with the texts that stand for each cluster."""
    write_text(path, clusters.markdown(clusters.describe(kmeans), texts))


def show_clusters(kmeans: KMeans, texts: list[str] | None, where: str | None) -> None:
    """The largest clusters, as many as fit on the screen, with words that set them apart.

    where  a file that holds all of them
    """
    found, names = clusters.describe(kmeans), None
    if texts is not None:
        labels = np.asarray(kmeans.labels_)
        words = distinctive_words(texts, labels, len(kmeans.cluster_centers_), kmeans.random_state_).words
        # texts that share no word have one that is closest
        names = [", ".join(words[cluster.label]) or texts[cluster.closest[0]] for cluster in found]
    n_shown = max(_FEWEST, min(_MOST, shutil.get_terminal_size().lines - _OTHER_LINES))
    results.show(clusters.table(found, names, n_shown))
    if len(found) > n_shown:
        rows = sum(cluster.size for cluster in found[n_shown:])
        told = f"and {len(found) - n_shown:,} smaller clusters with {rows:,} rows"
        results.show(told if where is None else f"{told}: all are in {where}")


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
        "random_state": given_seed(kmeans),
        "seed": kmeans.random_state_,
        "digest": kmeans.digest(),
        "label_digest": label_digest(labels),
        "files": files,
    }
    if as_json:
        tell_json(record)
    elif not quiet:
        say(
            f"{record['rows']:,} rows x {record['features']} in {record['clusters']:,} clusters: "
            f"mean similarity {record['similarity']:.4f} after {record['epochs']} "
            f"epoch{'s' * (record['epochs'] != 1)}, seed {given_seed(kmeans)}. "
            f"{kmeans.stop_reason_.advice}"
        )
        for name, path in files.items():
            say(f"  {name:9} {path}")
