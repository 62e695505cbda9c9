"""The same ids tomorrow: which cluster of a new model is which of an old one, what moved, and clusters put in order."""

from __future__ import annotations

import copy
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cosmeans._estimator.fitted_state import Array, change_state, state_of
from cosmeans._estimator.inputs import check_names
from cosmeans._estimator.opening import open_fitted
from cosmeans.analysis.assignments import assign_rows, checked_copy, labels_and_scores
from cosmeans.calls import public
from cosmeans.containers.converted import on_host
from cosmeans.errors import InputError, InputTypeError, OptionError
from cosmeans.estimator import KMeans
from cosmeans.plot import plot_moves
from cosmeans.progress import Silent, set_observer
from cosmeans.tabular import Columns, Tabular

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, repr=False)
class Match(Tabular):
    """A one-to-one match of clusters, the one with the largest sum of cosines. As a table: one row for each pair.

    Attributes
    ----------
    new_of_old
        (K_old,) int64: the cluster of the new model that continues it, -1 if none does.
    old_of_new
        (K_new,) int64: the other way round.
    cosines
        (K_old,) float32: of the two centroids; 0 where none continues it.
    """

    new_of_old: np.ndarray
    old_of_new: np.ndarray
    cosines: np.ndarray

    @property
    def ids(self) -> np.ndarray:
        """(K_new,) int64: the id of each new cluster: that of its old one, else K_old and up."""
        unmatched = self.old_of_new < 0
        return np.where(unmatched, len(self.new_of_old) + np.cumsum(unmatched) - 1, self.old_of_new)

    def relabel(self, labels: Any) -> Any:
        """Labels by the new model with the ids of the old one; -1 stays. NumPy or torch, as given."""
        if isinstance(labels, Tensor):
            return torch.from_numpy(self.relabel(labels.detach().cpu().numpy())).to(labels.device)
        try:
            given = np.asarray(labels)
        except (TypeError, ValueError) as error:
            raise self._not_labels() from error
        if given.size == 0:
            return given.astype(np.int64)
        if given.dtype.kind not in "iu" or not -1 <= int(given.min()) <= int(given.max()) < len(self.old_of_new):
            raise self._not_labels()
        return np.where(given < 0, given, self.ids[given])

    def _columns(self) -> Columns:
        old = np.flatnonzero(self.new_of_old >= 0)
        return {"old": old, "new": self.new_of_old[old], "similarity": self.cosines[old]}

    def _summary(self) -> str:
        pairs = int((self.new_of_old >= 0).sum())
        return f"{pairs:,} pairs of {len(self.new_of_old):,} old and {len(self.old_of_new):,} new clusters"

    def _not_labels(self) -> InputError:
        return InputError(
            f"labels must be integers from -1 to {len(self.old_of_new) - 1}, as the new model gives them. Pass its "
            "labels_, or what it predicts."
        )


@public
def match(old: KMeans[Any], new: KMeans[Any]) -> Match:
    """Match the clusters of two fitted models by the cosines of their centroids.

    The models may have different K; then some clusters stay without a partner. Needs memory for K_old x K_new
    cosines, and seconds for thousands of clusters. Source: Kuhn 1955, by scipy.optimize.linear_sum_assignment.
    Raises InputError if the models are of different D.

    Examples
    --------
    >>> import cosmeans
    >>> from cosmeans.demo_data import sample
    >>> rows, _ = sample()
    >>> old = cosmeans.KMeans(20, random_state=0, verbose=0).fit(rows[:5000])
    >>> new = cosmeans.KMeans(20, random_state=0, verbose=0).fit(rows)
    >>> int((cosmeans.match(old, new).cosines > 0.9).sum())
    12
    """
    old, new = _pair(old, new)
    cosines = _cosines(old, new)
    matched_old, matched_new = linear_sum_assignment(cosines.astype(np.float64), maximize=True)
    new_of_old, old_of_new = np.full(len(cosines), -1), np.full(cosines.shape[1], -1)
    new_of_old[matched_old], old_of_new[matched_new] = matched_new, matched_old
    similar = np.zeros(len(cosines), np.float32)
    similar[matched_old] = cosines[matched_old, matched_new].clip(-1.0, 1.0)
    return Match(new_of_old, old_of_new, similar)


def _pair(old: KMeans[Any], new: KMeans[Any]) -> tuple[KMeans[Any], KMeans[Any]]:
    """Copies of two fitted models of the same features. Raises before any work is done."""
    old, new = checked_copy(old, "old"), checked_copy(new, "new")
    if old.n_features_in_ != new.n_features_in_:
        raise InputError(
            f"The models have {old.n_features_in_} and {new.n_features_in_} features; only models of one embedding "
            "can be matched. Fit both to rows of the same kind."
        )
    return old, new


def _check_match(matched: Any, old: KMeans[Any], new: KMeans[Any]) -> None:
    """Raise unless this is a match of these two models, by their numbers of clusters."""
    if not isinstance(matched, Match):
        raise InputTypeError(f"matched must be what match(old, new) gives, got a {type(matched).__name__}.")
    found, needed = (
        (len(matched.new_of_old), len(matched.old_of_new)),
        (len(old.cluster_centers_), len(new.cluster_centers_)),
    )
    if found != needed:
        raise InputError(
            f"matched is of {found[0]} old and {found[1]} new clusters, the models have {needed[0]} and {needed[1]}. "
            "Pass what match(old, new) gives."
        )


def _cosines(old: KMeans[Any], new: KMeans[Any]) -> np.ndarray:
    """Of each old centroid with each new one, (K_old, K_new) float32."""
    nameless = copy.copy(old)
    change_state(nameless, feature_names_in_=None)  # centroids are not a frame
    set_observer(nameless, Silent())  # they are few
    with open_fitted(nameless, new.cluster_centers_) as (session, _, centroids):
        return np.concatenate([session.cosines(batch, centroids).cpu().numpy() for batch in session.rows.batches()]).T


@dataclass(frozen=True, slots=True)
class Change:
    """One cluster, by its id. cosine: of its centroids, None if it is new or gone.

    Attributes
    ----------
    before, after
        Rows in the old and in the new model.
    stayed
        Rows in both; left = before - stayed, came = after - stayed.
    """

    id: int
    before: int
    after: int
    stayed: int
    cosine: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Moves(Tabular):
    """What happened to rows between two models, in the ids of the old one (`Match.ids`).

    As a table: one row for each cluster.

    Attributes
    ----------
    n_rows
        Rows that have a label in both.
    stayed
        Those whose cluster is still the same.
    clusters
        Every id, by id.
    flows
        (F, 3) int64: from, to, rows; every pair of different ids between which rows moved, most rows first.
    """

    n_rows: int
    stayed: int
    clusters: list[Change]
    flows: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self) | {"flows": self.flows.tolist()}

    def _columns(self) -> Columns:
        names = {"id": "cluster", "before": "before", "after": "after", "stayed": "stayed", "cosine": "similarity"}
        return {shown: [getattr(change, name) for change in self.clusters] for name, shown in names.items()}

    def _summary(self) -> str:
        return f"{self.stayed:,} of {self.n_rows:,} rows stayed in their cluster"

    @public
    def plot(self, path: str | os.PathLike[str] | None = None, n_clusters: int = 12) -> Figure:
        """Draw the flows between the largest clusters (needs matplotlib); with a path, write a PNG there."""
        return plot_moves(self, path, n_clusters)


@public
def moved(old: KMeans[Any], new: KMeans[Any], rows: Any, matched: Match | None = None) -> Moves:
    """Compare where two models put the same rows. matched: a match made before; default: `match(old, new)`."""
    old, new = _pair(old, new)
    if matched is not None:
        _check_match(matched, old, new)
    names = [getattr(model, "feature_names_in_", None) for model in (old, new)]
    if names[0] is not None and names[1] is not None:
        check_names(names[0].tolist(), names[1].tolist())
    before = labels_and_scores(old, rows, "labelling rows by the old model")[0]
    matched = match(old, new) if matched is None else matched
    after = matched.relabel(labels_and_scores(new, rows, "labelling rows by the new model")[0])
    both = (before >= 0) & (after >= 0)
    before, after = before[both], after[both]
    n_ids = max(len(matched.new_of_old), int(matched.ids.max()) + 1)
    pairs, counts = np.unique(before * n_ids + after, return_counts=True)
    source, target = pairs // n_ids, pairs % n_ids
    same = source == target
    stayed = np.zeros(n_ids, np.int64)
    stayed[source[same]] = counts[same]
    flows = np.stack([source, target, counts], axis=1)[~same]
    order = np.lexsort((flows[:, 1], flows[:, 0], -flows[:, 2]))
    sizes = [np.bincount(labels, minlength=n_ids).tolist() for labels in (before, after)]
    goes_on = matched.new_of_old >= 0
    cosines = [float(c) if m else None for c, m in zip(matched.cosines, goes_on, strict=True)]
    cosines += [None] * (n_ids - len(cosines))
    changes = [Change(*values) for values in zip(range(n_ids), *sizes, stayed.tolist(), cosines, strict=True)]
    return Moves(len(before), int(stayed.sum()), changes, flows[order])


@public
def reorder(
    model: KMeans[Array], order: Literal["size"] | Match | ArrayLike | Tensor = "size", rows: Any = None
) -> KMeans[Array]:
    """A copy of a fitted model with its clusters in another order; the model itself stays as it is.

    A fit that continues from the copy keeps the new numbers; it does not sort again.
    Rows exactly between two centroids take the lower label, so labels are computed, not renamed.
    Raises OptionError for an order that is not a permutation, or a Match whose ids have gaps.

    Parameters
    ----------
    order
        "size": most rows first, the lower label at a tie; a `Match` of an old model with this one: the ids of the old
        one; or (K,) integers: the present label of each new cluster.
    rows
        The rows of the fit: labels_ and similarity_ are computed again. Without them the copy predicts but has no
        labels, like a loaded model.
    """
    model = checked_copy(model, attribute="counts_")
    state_of(model).centroids()  # raises if they were changed in place
    permutation = torch.from_numpy(_permutation(model, order))
    ordered = copy.copy(model)
    change_state(
        ordered,
        cluster_centers_=model.cluster_centers_[_index(model.cluster_centers_, permutation)],
        counts_=model.counts_[_index(model.counts_, permutation)],
        labels_=None,
        similarity_=None,
        inertia_=None,
        mapped=False,
    )
    if rows is not None:
        with assign_rows(ordered, rows, labelling="labels in the new order") as assigned:
            change_state(
                ordered,
                labels_=assigned.kind.out(assigned.labels.to(torch.int64)),
                similarity_=assigned.kind.cosines(assigned.scores),
                counts_=assigned.kind.out(torch.from_numpy(assigned.sizes())),
            )
    return ordered


def check_order(order: str | None) -> None:
    """Raise OptionError for the name of an order that doesn't exist."""
    if order not in (None, "size"):
        raise OptionError(f'order must be "size", a Match or (K,) integers; got {order!r}.')


def _permutation(model: KMeans[Any], order: Any) -> np.ndarray:
    counts = on_host(model.counts_).numpy()
    n_clusters = len(counts)
    if isinstance(order, Match):
        if len(order.old_of_new) != n_clusters or len(order.new_of_old) > n_clusters:
            raise OptionError(
                f"This match is of {len(order.new_of_old)} old with {len(order.old_of_new)} new clusters and the model "
                f"has {n_clusters}: its ids would have gaps. Use Match.relabel on the labels instead."
            )
        return np.argsort(order.ids, kind="stable")
    if isinstance(order, str):
        check_order(order)
        return np.argsort(-counts, kind="stable")
    given = order.detach().cpu().numpy() if isinstance(order, Tensor) else np.asarray(order)
    try:
        right = given.shape == (n_clusters,) and np.array_equal(np.sort(given), np.arange(n_clusters))
    except TypeError:  # objects that have no order
        right = False
    if not right:
        raise OptionError(
            f"order must name each of the {n_clusters} clusters once; got an array of shape {given.shape}."
        )
    return given.astype(np.int64)


def _index(values: Any, permutation: Tensor) -> Any:
    return permutation.to(values.device) if isinstance(values, Tensor) else permutation.numpy()
