"""How many clusters: a range of K on a sample, with several seeds, measured, drawn, and a suggestion that says why."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cosmeans import seeding, sphere
from cosmeans._estimator.inputs import read_rows
from cosmeans.analysis.assignments import assign_rows
from cosmeans.analysis.evaluation import simplified_silhouette
from cosmeans.analysis.runs import Run, RunStore
from cosmeans.calls import public
from cosmeans.choices import InitName
from cosmeans.contracts import RowSource
from cosmeans.errors import FileError, InputError, OptionError, TooFewRowsError
from cosmeans.estimator import KMeans
from cosmeans.options import FitOptions, check_integer, check_start
from cosmeans.paths import as_path
from cosmeans.plot import plot_choice
from cosmeans.printable import brief, sentence
from cosmeans.progress import watch
from cosmeans.tabular import Columns, Tabular

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROWTH = 2.0**0.5  # of the K tried by default: two steps double it
_LARGEST_DEFAULT = 256
_ALIKE = 0.01  # silhouettes this close are not told apart: new rows would change them as much
_LAST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Point:
    """All runs of one K.

    Attributes
    ----------
    similarity, silhouette
        Of the run with the highest similarity, the one that n_init would keep.
    spread
        Of the silhouette over the seeds, largest less smallest.
    stability
        Mean adjusted Rand index of the labels of each two seeds: 1, the same clusters with every seed; about 0, as if
        by chance. None with one seed.
    """

    n_clusters: int
    similarity: float
    silhouette: float
    spread: float
    stability: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Choice(Tabular):
    """A curve over K and a suggestion. As a table: one row for each K.

    Attributes
    ----------
    n_clusters
        The K suggested.
    reason
        Why, in a sentence.
    points
        One per K, ascending.
    runs
        Every fit.
    n_rows
        Rows of the sample that were clustered.
    """

    n_clusters: int
    reason: str
    points: list[Point]
    runs: list[Run]
    n_rows: int

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)

    def _columns(self) -> Columns:
        names = [spec.name for spec in fields(Point)]
        return {name: [getattr(point, name) for point in self.points] for name in names}

    def _summary(self) -> str:
        ks = [point.n_clusters for point in self.points]
        return f"K = {self.n_clusters} of {len(ks)} from {ks[0]} to {ks[-1]}, {self.n_rows:,} rows"

    @public
    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the curves (needs matplotlib); with a path, write a PNG there. Returns the figure."""
        return plot_choice(self.n_clusters, self.points, self.runs, path)


@public
def choose_k(
    X: Any,
    ks: Iterable[int] | None = None,
    *,
    n_seeds: int = 3,
    sample_size: int = 20_000,
    epochs: int = 50,
    init: InitName = "k-means++",
    random_state: int = 0,
    folder: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Choice:
    """Cluster a sample of the rows with every K and seed, and suggest a K.

    The suggestion has the same bits on every machine. It compares silhouettes; the best K also depends on what
    the clusters are for, so look at the curve, and at clusters.
    Raises OptionError, TooFewRowsError, or FileError if the folder belongs to other rows or options.

    Parameters
    ----------
    X
        Anything that `KMeans.fit` takes.
    ks
        The K to try, each at least 2; default: 2, 3, 4, 6, 8, 11, ... up to 256 or a tenth of the sample.
    sample_size
        Rows drawn by `random_state`, the same on every machine.
    epochs
        Most epochs of each fit.
    init
        As for KMeans.
    folder
        Where every finished run is kept: the same call continues after an interruption, and one with more ks or
        seeds runs only the new ones.

    Examples
    --------
    >>> import cosmeans
    >>> from cosmeans.demo_data import sample
    >>> rows, _ = sample()
    >>> choice = cosmeans.choose_k(rows[:1000], [4, 8, 16], n_seeds=2)
    >>> choice.n_clusters
    16
    """
    n_seeds, sample_size = check_integer("n_seeds", n_seeds, 1), check_integer("sample_size", sample_size, 2)
    random_state = check_integer("random_state", random_state, 0, _LAST_SEED - n_seeds)
    FitOptions(epochs=epochs, verbose=verbose)
    options = {"epochs": int(epochs), "init": check_start(init)}
    given = _listed(ks)
    rows, _ = read_rows(X)
    _checked_ks(given, min(rows.n_rows, sample_size))
    kept = None if folder is None else as_path(folder, "folder")
    if kept is not None and os.path.exists(kept) and not os.path.isdir(kept):
        raise FileError(f"{folder} is not a folder. Choose another one for the runs.")
    sample = _sample(rows, sample_size, random_state)
    tried = _checked_ks(given, len(sample))
    store = None if kept is None else RunStore(kept, sample, options)
    jobs = [(k, seed) for seed in range(random_state, random_state + n_seeds) for k in tried]
    found = {job: run for job in jobs if store and (run := store.read(*job)) is not None}
    left = [job for job in jobs if job not in found]
    done, total = 0, sum(k for k, _ in left)
    with watch(verbose=verbose) as observer:
        for number, (k, seed) in enumerate(left, 1):
            count = f"fit {number} of {len(left)}: {k} clusters, seed {seed}"
            # larger K take longer, so the time left is that of clusters, not of fits
            observer.step("trying numbers of clusters", done, total, "clusters", count)
            found[k, seed] = _run(sample, k, seed, options)
            if store:
                store.write(*found[k, seed])
            done += k
            observer.step("trying numbers of clusters", done, total, "clusters", count)
    runs = [found[job][0] for job in jobs]
    labels = {job: found[job][1] for job in jobs}
    points = [_point([run for run in runs if run.n_clusters == k], labels) for k in tried]
    best, reason = suggest(points)
    return Choice(best, reason, points, runs, len(sample))


def suggest(points: list[Point]) -> tuple[int, str]:
    """The most stable K among those whose silhouette is within 0.01 of the highest.

    At a tie the higher silhouette, then the smaller K; with one seed that alone decides.
    """
    best = max(points, key=lambda point: (point.silhouette, -point.n_clusters))
    good = [point for point in points if point.silhouette >= best.silhouette - _ALIKE]
    chosen = max(good, key=lambda point: (point.stability or 0.0, point.silhouette, -point.n_clusters))
    reason = f"K = {chosen.n_clusters}: "
    if chosen is best:
        reason += f"the highest silhouette, {best.silhouette:.3f}"
    else:
        reason += (
            f"silhouette {chosen.silhouette:.3f}, within {_ALIKE} of the highest ({best.silhouette:.3f} at "
            f"K = {best.n_clusters}), and the most stable of the {len(good)} such K"
        )
    if chosen.stability is not None:
        reason += f"; different seeds agree on the clusters with an adjusted Rand index of {chosen.stability:.2f}"
    return chosen.n_clusters, reason + "." + _caution(points, best, chosen)


def _caution(points: list[Point], best: Point, chosen: Point) -> str:
    caution = ""
    if len(points) > 2 and best is points[-1] and chosen is points[0]:
        caution += (
            " The silhouette is as high at both ends of the range: the rows form a few broad groups and many small "
            "ones. Try larger K, and choose by how much detail you need."
        )
    elif len(points) > 1 and best is points[-1]:
        caution += " The silhouette is highest at the end of the range: try larger K."
    elif len(points) > 1 and best is points[0]:
        caution += " The silhouette is highest at the start of the range: the rows form few broad groups, or none."
    if chosen.stability is not None and chosen.stability < 0.5:
        caution += (
            " Seeds disagree more than they agree, so the rows have no sharp groups of this size: choose K by use."
        )
    return caution


def _sample(rows: RowSource, size: int, seed: int) -> Tensor:
    """Rows of the sample, (n, D) float32, without those that have no direction."""
    index = torch.from_numpy(seeding.subset(rows.n_rows, size, seed))
    sample = rows.gather(index.to(rows.device)).to(torch.float32)
    squared = sphere.squared_norms(sample)
    bad = (~torch.isfinite(squared)).nonzero()[:, 0]
    if len(bad):
        raise InputError(f"{sentence(rows.where(int(index[int(bad[0])])))} contains NaN or infinity. Remove such rows.")
    return sample[squared > 0]


def _listed(ks: Iterable[int] | None) -> list[int] | None:
    """The K to try as integers, each once, ascending. Raises OptionError for anything else."""
    if ks is None:
        return None
    if isinstance(ks, str | bytes) or not isinstance(ks, Iterable) or getattr(ks, "ndim", 1) == 0:
        shown = brief(ks)
        raise OptionError(f"ks must be a list of numbers of clusters, such as [4, 8, 16]; got {shown}. Pass [{shown}].")
    listed = sorted({check_integer("each of ks", _plain(k), -_LAST_SEED) for k in ks})
    if listed and listed[0] < 2:
        raise OptionError(f"ks must be numbers of clusters, each at least 2; got {listed}.")
    return listed


def _plain(k: Any) -> Any:
    """A number of an array or a tensor as Python's own; anything else as it is."""
    return k.item() if getattr(k, "ndim", None) == 0 else k


def _checked_ks(ks: list[int] | None, n_rows: int) -> list[int]:
    if ks is None:
        largest = min(_LARGEST_DEFAULT, n_rows // 10)
        steps = range(2 + int(2 * math.log2(max(2, largest))))
        tried = sorted({round(2 * _GROWTH**step) for step in steps if round(2 * _GROWTH**step) <= largest})
    else:
        tried = ks
    if not tried:
        raise OptionError(f"ks must be numbers of clusters, each at least 2; got {tried}, with {n_rows} rows.")
    if tried[-1] > n_rows:
        raise TooFewRowsError(
            f"K = {tried[-1]} needs at least as many rows; the sample has {n_rows}. Raise sample_size."
        )
    return tried


def _run(sample: Tensor, k: int, seed: int, options: dict[str, Any]) -> tuple[Run, np.ndarray]:
    started = time.perf_counter()
    kmeans = KMeans(k, **options, random_state=seed, verbose=0).fit(sample)
    seconds = time.perf_counter() - started
    with assign_rows(kmeans, sample) as assigned:
        silhouette = simplified_silhouette(assigned)
        labels = assigned.host()[0].astype(np.int32)
    run = Run(k, seed, assigned.similarity, 0.0 if silhouette is None else silhouette, kmeans.n_iter_, seconds)
    return run, labels


def _point(runs: list[Run], labels: dict[tuple[int, int], np.ndarray]) -> Point:
    from sklearn.metrics import adjusted_rand_score  # a hundred modules that no fit needs

    k = runs[0].n_clusters
    best = max(runs, key=lambda run: run.similarity)
    silhouettes = [run.silhouette for run in runs]
    pairs = list(combinations([labels[k, run.seed] for run in runs], 2))
    agreement = [float(adjusted_rand_score(first, second)) for first, second in pairs]
    return Point(
        n_clusters=k,
        similarity=best.similarity,
        silhouette=best.silhouette,
        spread=max(silhouettes) - min(silhouettes),
        stability=math.fsum(agreement) / len(agreement) if agreement else None,
    )
