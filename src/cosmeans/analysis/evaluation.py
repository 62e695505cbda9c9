"""How good a clustering is: in itself, and against classes that are known."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn import config_context

from cosmeans import seeding, sphere
from cosmeans.analysis.assignments import Assigned, assign_rows
from cosmeans.calls import public
from cosmeans.containers.classes import read_classes
from cosmeans.data import Batch
from cosmeans.errors import InputError, OptionError
from cosmeans.estimator import KMeans
from cosmeans.options import check_integer
from cosmeans.progress import watching
from cosmeans.scoring import tiles
from cosmeans.tabular import Columns, Tabular

_WORKING_MEMORY = 64  # MiB that scikit-learn may hold distances of the sample in


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Tabular):
    """Measures of one clustering. None where a measure is not defined: fewer than two clusters, no classes given.

    As a table: one row, without the sizes, so that those of several models can follow one another.

    Attributes
    ----------
    n_rows
        Rows that have a label.
    left_out
        Rows that have none (zero, skipped).
    similarity
        Mean cosine of the rows with their centroids, -1 to 1, higher is better.
    silhouette
        Simplified: (b - a) / max(a, b) with a, b the cosine distances to the own and to the nearest other centroid,
        mean over all rows, 0 to 1, higher is better; alone in its cluster: 0.
    sampled_silhouette
        The full one (mean distances to rows, Rousseeuw 1987) over a sample, -1 to 1.
    davies_bouldin
        Mean over clusters of the worst (scatter + scatter) / distance, as chords; lower is better.
    sizes
        (K,) int64: rows of each cluster.
    empty
        Clusters without a row.
    imbalance
        K sum(size^2) / (sum size)^2: 1 when all sizes are equal, K when one cluster has all rows.
    gini
        Of the sizes: 0 when all are equal, towards 1 when few clusters have nearly all rows.
    nmi, ari, purity
        Against the classes: normalised mutual information, adjusted Rand index, share of rows whose class is the
        commonest of their cluster.
    """

    n_rows: int
    left_out: int
    similarity: float
    silhouette: float | None
    sampled_silhouette: float | None
    davies_bouldin: float | None
    sizes: np.ndarray
    imbalance: float
    gini: float
    empty: int
    nmi: float | None = None
    ari: float | None = None
    purity: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self) | {"sizes": self.sizes.tolist()}

    def _columns(self) -> Columns:
        return {name: [value] for name, value in asdict(self).items() if name != "sizes"}

    def _summary(self) -> str:
        told = f"{self.n_rows:,} rows in {len(self.sizes):,} clusters, similarity {self.similarity:.4f}"
        return told if self.silhouette is None else f"{told}, silhouette {self.silhouette:.4f}"


@public
def evaluate(
    model: KMeans[Any], rows: Any, classes: Any = None, *, sample_size: int = 5000, random_state: int = 0
) -> Evaluation:
    """Measure how good a fitted model is on rows, those it was fitted to or others.

    Everything but `sampled_silhouette` has the same bits on every machine.
    Raises OptionError, InputError (classes that are not one per row, or missing) and what `KMeans.predict` raises,
    before any work is done.

    Parameters
    ----------
    rows
        Anything that `KMeans.fit` takes.
    classes
        (N,) known classes: integers, strings or other hashable values; None: nmi, ari and purity are None. A class that
        is missing (None, NaN, NA, masked) is an error that names the row.
    sample_size
        Rows of the sampled silhouette, drawn by `random_state`; its time grows with the square of this, its memory does
        not.

    Examples
    --------
    >>> import cosmeans
    >>> from cosmeans.demo_data import sample
    >>> rows, texts = sample()
    >>> kmeans = cosmeans.KMeans(60, random_state=0, verbose=0).fit(rows)
    >>> found = cosmeans.evaluate(kmeans, rows)
    >>> print(f"{found.similarity:.4f}, {found.silhouette:.4f}")
    0.4755, 0.1659
    """
    sample_size = check_integer("sample_size", sample_size, 0)
    if sample_size < 2:
        raise OptionError(f"sample_size={sample_size}: the silhouette of a sample needs at least 2 rows.")
    random_state = check_integer("random_state", random_state, 0)
    known: list[np.ndarray] = []
    check = None if classes is None else lambda n_rows: known.append(read_classes(classes, n_rows))
    with assign_rows(model, rows, check, "measuring clusters") as assigned:
        return _measured(assigned, sample_size, random_state, known[0] if known else None)


def _measured(assigned: Assigned, sample_size: int, random_state: int, classes: np.ndarray | None) -> Evaluation:
    labels, sizes = assigned.host()[0], assigned.sizes()
    kept = labels >= 0
    if not kept.any():
        raise InputError(f"None of the {len(labels)} rows has a direction, so there is nothing to measure.")
    silhouette = simplified_silhouette(assigned)
    watching().phase("silhouette of a sample, and other measures")
    return Evaluation(
        n_rows=int(kept.sum()),
        left_out=int((~kept).sum()),
        similarity=sphere.clipped_mean(assigned.similarity),
        silhouette=silhouette,
        sampled_silhouette=_sampled_silhouette(assigned, sample_size, random_state),
        davies_bouldin=davies_bouldin(assigned),
        sizes=sizes,
        imbalance=len(sizes) * float((sizes**2).sum()) / float(sizes.sum()) ** 2,
        gini=gini(sizes),
        empty=int((sizes == 0).sum()),
        **(against_classes(labels[kept], classes[kept]) if classes is not None else {}),
    )


def simplified_silhouette(assigned: Assigned) -> float | None:
    """Mean of (b - a) / max(a, b) over the rows; None with fewer than two clusters that have rows.

    Source: Hruschka et al. 2006. From cosines that are canonical, added exactly: the same bits everywhere.
    """
    sizes = torch.from_numpy(assigned.sizes()).to(assigned.labels.device)
    if int((sizes > 0).sum()) < 2:
        return None
    values, observer, n_rows = [], watching(), assigned.session.rows.n_rows
    for batch in tiles(assigned.session.rows, len(assigned.centroids)):
        observer.step("silhouette", batch.start, n_rows, "rows")
        labels = assigned.labels[batch.span].to(torch.int64)
        kept = labels >= 0
        cosines_BK = assigned.session.cosines(batch, assigned.centroids)[kept].to(torch.float64)
        own = labels[kept][:, None]
        a = (1.0 - cosines_BK.gather(1, own)[:, 0]).clamp_min(0.0)
        cosines_BK[:, sizes == 0] = -torch.inf
        cosines_BK.scatter_(1, own, -torch.inf)
        b = (1.0 - cosines_BK.amax(dim=1)).clamp_min(0.0)
        # b = 0: the row equals two centroids, and belongs to neither more than to the other
        silhouette = torch.where(b > 0, (b - a) / torch.where(b > 0, b, torch.ones_like(b)), torch.zeros_like(b))
        values.append(torch.where(sizes[own[:, 0]] > 1, silhouette, torch.zeros_like(b)))
    # part by part: as objects of Python all values together would outweigh the labels many times
    return math.fsum(value for part in values for value in part.tolist()) / sum(map(len, values))


def davies_bouldin(assigned: Assigned) -> float | None:
    """Davies & Bouldin 1979 with centroids on the sphere and chords as distances; None below two clusters."""
    labels, scores = assigned.host()
    sizes = assigned.sizes()
    present = np.flatnonzero(sizes)
    if len(present) < 2:
        return None
    chords = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * scores))
    kept = labels >= 0
    scatter = np.bincount(labels[kept], weights=chords[kept], minlength=len(sizes))[present] / sizes[present]
    centroids = assigned.centroids[torch.from_numpy(present).to(assigned.centroids.device)]
    worst: list[float] = []
    for start in range(0, len(present), _BLOCK):
        block = Batch(start, centroids[start : start + _BLOCK])
        cosines = assigned.session.cosines(block, centroids).cpu().numpy().astype(np.float64)
        between = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * cosines))
        own = np.arange(len(block))
        between[own, start + own] = np.inf
        both = scatter[start : start + _BLOCK, None] + scatter[None, :]
        # two centroids closer than float32 can tell: as bad as it gets, unless both clusters are points
        ratio = np.divide(both, between, out=np.where(both > 0, np.inf, 0.0), where=between > 0)
        worst += ratio.max(axis=1).tolist()
    return math.fsum(worst) / len(worst)


_BLOCK = 1024  # centroids compared with all others at once


def gini(sizes: np.ndarray) -> float:
    """Gini coefficient of cluster sizes: sum over ascending sizes of (2i - K - 1) size / (K sum size)."""
    n_clusters = len(sizes)
    ranks = 2 * np.arange(1, n_clusters + 1) - n_clusters - 1
    return float((ranks * np.sort(sizes)).sum()) / float(n_clusters * sizes.sum())


def against_classes(labels: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """nmi, ari and purity of labels (N,) against classes (N,)."""
    from sklearn import metrics  # a hundred modules that no fit needs
    from sklearn.metrics.cluster import contingency_matrix

    table = contingency_matrix(classes, labels, sparse=True)
    return {
        "nmi": float(metrics.normalized_mutual_info_score(classes, labels)),
        "ari": float(metrics.adjusted_rand_score(classes, labels)),
        "purity": float(table.max(axis=0).sum()) / len(labels),
    }


def _sampled_silhouette(assigned: Assigned, size: int, seed: int) -> float | None:
    chosen = seeding.subset(assigned.session.rows.n_rows, size, seed)
    labels = assigned.host()[0][chosen]
    chosen, labels = chosen[labels >= 0], labels[labels >= 0]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return None
    rows = assigned.session.rows.take(torch.from_numpy(chosen)).cpu().to(torch.float64).numpy()
    from sklearn.metrics import silhouette_score  # loaded when asked for

    with config_context(working_memory=_WORKING_MEMORY):
        return float(silhouette_score(rows, labels, metric="cosine"))
