"""What people do with clusters: the clusters of a row, the rows that stand for a cluster, the rows that fit nowhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Generic, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosmeans import sphere
from cosmeans._estimator.fitted_state import Array
from cosmeans._estimator.opening import open_fitted
from cosmeans.analysis.assignments import assign_rows, checked_copy
from cosmeans.calls import public
from cosmeans.contracts import Session
from cosmeans.data import NO_LABEL, Batch
from cosmeans.errors import OptionError
from cosmeans.estimator import KMeans, TensorRows
from cosmeans.options import check_integer
from cosmeans.printable import brief
from cosmeans.progress import watching
from cosmeans.scoring import tiles
from cosmeans.tabular import Columns, Tabular, host


@dataclass(frozen=True, slots=True, repr=False)
class Top(Tabular, Generic[Array]):
    """The best clusters of every row, best first, the lowest label at a tie; -1 and 0 for rows left out.

    As a table: one row for each row and cluster.

    Attributes
    ----------
    labels
        (N, m) int64.
    cosines
        (N, m) float64 in [-1, 1]: canonical scores.
    """

    labels: Array
    cosines: Array

    def _columns(self) -> Columns:
        labels, cosines = host(self.labels), host(self.cosines)
        there = labels >= 0
        row, rank = np.nonzero(there)
        return {"row": row, "rank": rank + 1, "cluster": labels[there], "similarity": cosines[there]}

    def _summary(self) -> str:
        n_rows, m = self.labels.shape
        return f"the {m} best clusters of {n_rows:,} rows"


@dataclass(frozen=True, slots=True, repr=False)
class Outliers(Tabular, Generic[Array]):
    """The rows that fit their clusters worst, worst first, the lowest row at a tie. As a table: one row for each.

    Attributes
    ----------
    rows
        (n,) int64.
    cosines
        (n,) float64 in [-1, 1]: canonical score of each with its centroid.
    threshold
        The cosines are below this.
    labels
        (n,) int64: the cluster of each.
    """

    rows: Array
    cosines: Array
    threshold: float
    labels: Array

    def _columns(self) -> Columns:
        return {"row": host(self.rows), "cluster": host(self.labels), "similarity": host(self.cosines)}

    def _summary(self) -> str:
        return f"{len(self.rows):,} rows, similarity below {self.threshold:.4f}"


@dataclass(frozen=True, slots=True, repr=False)
class Exemplars(Tabular, Generic[Array]):
    """The rows closest to each centroid, best first, the lowest row at a tie; -1 and 0 where a cluster has fewer.

    As a table: one row for each, by cluster.

    Attributes
    ----------
    rows
        (K, m) int64.
    cosines
        (K, m) float64 in [-1, 1]: canonical scores.
    """

    rows: Array
    cosines: Array

    def _columns(self) -> Columns:
        rows, cosines = host(self.rows), host(self.cosines)
        there = rows >= 0
        return {"row": rows[there], "cluster": np.nonzero(there)[0], "similarity": cosines[there]}

    def _summary(self) -> str:
        n_clusters, m = self.rows.shape
        return f"the {m} rows closest to each of {n_clusters:,} centroids"


@dataclass(frozen=True, slots=True, repr=False)
class Members(Tabular, Generic[Array]):
    """All rows of a cluster, closest to its centroid first, the lowest row at a tie. As a table: one row for each.

    Attributes
    ----------
    rows
        (n,) int64.
    cosines
        (n,) float64 in [-1, 1]: canonical scores.
    cluster
        Its number.
    """

    rows: Array
    cosines: Array
    cluster: int

    def _columns(self) -> Columns:
        rows = host(self.rows)
        return {"row": rows, "cluster": np.full(len(rows), self.cluster), "similarity": host(self.cosines)}

    def _summary(self) -> str:
        return f"the {len(self.rows):,} rows of cluster {self.cluster}"


@overload
def top(model: KMeans[Any], rows: TensorRows, m: int = 3) -> Top[Tensor]: ...
@overload
def top(model: KMeans[Any], rows: Any, m: int = 3) -> Top[NDArray[Any]]: ...
@public
def top(model: KMeans[Any], rows: Any, m: int = 3) -> Any:
    """The m best clusters of every row with their cosines: exact, the same bits on every machine.

    The first column is what `predict` gives. Memory does not grow with N x K.
    """
    m = check_integer("m", m, 1)
    model = checked_copy(model)
    if m > len(model.cluster_centers_):
        raise OptionError(f"m={m}, but the model has {len(model.cluster_centers_)} clusters. Lower m.")
    with open_fitted(model, rows) as (session, kind, centroids):
        labels = torch.empty((session.rows.n_rows, m), dtype=torch.int64, device=session.device)
        cosines = torch.empty((session.rows.n_rows, m), dtype=torch.float64, device=session.device)
        for batch in tiles(session.rows, len(centroids)):
            labels[batch.span], cosines[batch.span] = _best(batch, centroids, m, session)
            watching().step("best clusters", batch.start + len(batch), session.rows.n_rows, "rows")
        return Top(kind.out(labels), kind.cosines(cosines))


def _best(batch: Batch, centroids: Tensor, m: int, session: Session) -> tuple[Tensor, Tensor]:
    """Labels and canonical scores (B, m).

    Rounding keeps order, so float32 cosines name every candidate: m of them, or more where they tie at rank m.
    """
    cosines_BK = session.cosines(batch, centroids)
    labels = torch.full((len(batch), m), NO_LABEL, dtype=torch.int64, device=cosines_BK.device)
    scores = torch.zeros((len(batch), m), dtype=torch.float64, device=cosines_BK.device)
    candidate_BK = cosines_BK >= cosines_BK.topk(m, dim=1).values[:, -1:]
    count = candidate_BK.sum(dim=1)
    if batch.keep is not None:
        count[~batch.keep] = 0
    for width in torch.unique(count[count > 0]).tolist():
        chosen = (count == width).nonzero()[:, 0]
        taken = batch.rows[chosen.to(batch.rows.device)]
        part = Batch(batch.start, taken, None if batch.norms is None else batch.norms[chosen])
        columns = candidate_BK[chosen].nonzero()[:, 1].reshape(-1, width)
        exact = torch.stack([session.scores(part, centroids, column) for column in columns.unbind(dim=1)], dim=1)
        # columns ascend, and a stable sort keeps them so at ties
        order = torch.sort(exact, dim=1, descending=True, stable=True).indices[:, :m]
        labels[chosen], scores[chosen] = columns.gather(1, order), exact.gather(1, order)
    return labels, scores


@overload
def outliers(
    model: KMeans[Any], rows: TensorRows, *, quantile: float | None = None, threshold: float | None = None
) -> Outliers[Tensor]: ...
@overload
def outliers(
    model: KMeans[Any], rows: Any, *, quantile: float | None = None, threshold: float | None = None
) -> Outliers[NDArray[Any]]: ...
@public
def outliers(model: KMeans[Any], rows: Any, *, quantile: float | None = None, threshold: float | None = None) -> Any:
    """Rows that fit their own cluster worst: a share of all rows, or all below a cosine.

    Parameters
    ----------
    quantile
        Share of the rows that have a label, 0 to 1, rounded down to whole rows; default 0.01.
    threshold
        Instead: every row whose cosine with its centroid is below this.
    """
    share = _checked_share(quantile, threshold)
    with assign_rows(model, rows, labelling="similarity of rows with their clusters") as assigned:
        labels, scores = assigned.host()
    order = np.lexsort((np.arange(len(scores)), scores))
    order = order[labels[order] >= 0]
    if threshold is None:
        count = int(round(share * len(order), 6))  # 0.29 of 100 rows are 29, not 28.999...
        limit = sphere.clipped_mean(float(scores[order[count]])) if count < len(order) else float("inf")
    else:
        count, limit = int((scores[order] < threshold).sum()), float(threshold)
    chosen = order[:count]
    kind = assigned.kind
    return Outliers(_out(kind, chosen), _cosines_out(kind, scores[chosen]), limit, _out(kind, labels[chosen]))


@overload
def exemplars(model: KMeans[Any], rows: TensorRows, m: int = 10) -> Exemplars[Tensor]: ...
@overload
def exemplars(model: KMeans[Any], rows: Any, m: int = 10) -> Exemplars[NDArray[Any]]: ...
@public
def exemplars(model: KMeans[Any], rows: Any, m: int = 10) -> Any:
    """The m rows closest to each centroid, among the rows of its cluster: what the cluster is about.

    With m larger than the number of rows N, the answer has N columns.

    Examples
    --------
    >>> import cosmeans
    >>> from cosmeans.demo_data import sample
    >>> rows, texts = sample()
    >>> kmeans = cosmeans.KMeans(60, random_state=0, verbose=0).fit(rows)
    >>> best = cosmeans.exemplars(kmeans, rows, m=3)
    >>> best.rows.shape
    (60, 3)
    >>> [texts[row].split(":")[0] for row in best.rows[47]]
    ['trailing arbutus', 'engelmannia', 'daisybush']
    """
    m = check_integer("m", m, 1)
    with assign_rows(model, rows, labelling="rows closest to their centroids") as assigned:
        labels, scores = assigned.host()
    found, cosines = closest(labels, scores, len(assigned.centroids), m)
    return Exemplars(_out(assigned.kind, found), _cosines_out(assigned.kind, cosines))


def closest(labels: np.ndarray, scores: np.ndarray, n_clusters: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """`Exemplars.rows` and their scores, (K, min(m, N)), of rows with these labels and scores (N,)."""
    m = min(m, len(labels))
    order = np.lexsort((np.arange(len(scores)), -scores, labels))
    order = order[labels[order] >= 0]
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    chosen = rank < m
    found = np.full((n_clusters, m), -1, np.int64)
    cosines = np.zeros(found.shape)
    found[ordered[chosen], rank[chosen]] = order[chosen]
    cosines[ordered[chosen], rank[chosen]] = scores[order[chosen]]
    return found, cosines


@overload
def members(model: KMeans[Any], rows: TensorRows, cluster: int) -> Members[Tensor]: ...
@overload
def members(model: KMeans[Any], rows: Any, cluster: int) -> Members[NDArray[Any]]: ...
@public
def members(model: KMeans[Any], rows: Any, cluster: int) -> Any:
    """All rows of one cluster, closest to its centroid first.

    Raises OptionError for a cluster that the model does not have, and what `KMeans.predict` raises.
    """
    model = checked_copy(model)
    cluster = check_integer("cluster", cluster, 0, len(model.cluster_centers_) - 1)
    with assign_rows(model, rows) as assigned:
        labels, scores = assigned.host()
    found = np.flatnonzero(labels == cluster)
    found = found[np.argsort(-scores[found], kind="stable")]
    return Members(_out(assigned.kind, found), _cosines_out(assigned.kind, scores[found]), cluster)


def _out(kind: Any, values: np.ndarray) -> Any:
    return kind.out(torch.from_numpy(values))


def _cosines_out(kind: Any, values: np.ndarray) -> Any:
    return kind.cosines(torch.from_numpy(values))


def _checked_share(quantile: float | None, threshold: float | None) -> float:
    if quantile is not None and threshold is not None:
        raise OptionError(f"Both quantile={brief(quantile)} and threshold={brief(threshold)} were given; choose one.")
    for name, value in (("quantile", quantile), ("threshold", threshold)):
        if value is not None and not _is_number(value):
            raise OptionError(f"{name} must be a number, got {brief(value)}.")
    share = 0.01 if quantile is None else float(quantile)
    if not 0.0 <= share <= 1.0:
        raise OptionError(f"quantile={quantile} is a share of the rows and must be between 0 and 1.")
    return share


def _is_number(value: Any) -> bool:
    """Whether a value is a real number that float64 can hold."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(float(value))
    except OverflowError:
        return False
