"""`KMeans`: the tutorial's face and scikit-learn's contract over one exact answer."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from importlib import import_module
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from cosmeans import __version__, lloyd, seeding
from cosmeans.backends.cpu import CpuBackend
from cosmeans.backends.reference import ReferenceBackend
from cosmeans.contracts import Backend, Observer, RowSource
from cosmeans.errors import (
    ArgumentOrderWarning,
    BackendUnavailableError,
    DistinctRowsWarning,
    OptionError,
    TooFewRowsError,
)
from cosmeans.group import Alone
from cosmeans.inputs import Kind, read_centroids, read_rows
from cosmeans.model_file import ModelState, load_model, save_model
from cosmeans.options import FitOptions
from cosmeans.progress import Silent, watch
from cosmeans.result import FitResult, History, StopReason
from cosmeans.rows.memory import MemoryRows

_SMALL_BATCH = 1 << 16  # a batch_size up to this may have been meant as a number of clusters


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Spherical k-means: rows and centroids of unit length, similarity is the cosine.

    Labels are the argmax of canonical scores and centroids come from exact sums, so the result has the same bits
    on every device, for any batch size and thread count, and continued or not (docs/algorithm.md).

    Parameters
    ----------
    n_clusters : int, default 8. K.
    batch_size : int or None. Rows held in working memory at once; None chooses by memory. Speed only.
    epochs : int, default 100. Most passes over the rows; a fit ends earlier when no centroid moves.
    init : "random", "k-means++", array (K, D) or callable(X, n_clusters, random_state).
    n_init : int. Number of starts; the run of highest similarity is kept, the first at a tie.
    tol : float. Stop when no centroid moves farther than this (chord length, 0 to 2); 0: at the fixed point.
    random_state : int, RandomState or None. None draws a seed, kept in `random_state_`.
    max_iter : int or None. Another name for epochs.
    verbose : int. 0: silent, 1: progress bars for work that takes a while, 2: with rows/s, GFLOP/s, time left.
    warm_start : bool. A second `fit` goes on from the present centers, unless K, D, init or random_state changed.
    zero_rows : "warn", "skip" or "error". Zero rows have no direction and get label -1.
    nonfinite : "error" or "skip". Rows with NaN or infinity.
    empty_clusters : "move", "keep" or "error". A cluster without direction moves to the worst-fitting row.
    backend : "auto", "cpu" or "reference". Speed only.

    Attributes
    ----------
    centers, cluster_centers_ : (K, D) float32, unit length. `centers` can be set.
    similarities : list of float. Mean cosine of every epoch, before its update; joined over continued fits.
    labels_ : (N,) int64, under exactly `cluster_centers_`; -1 for rows left out.
    similarity_ : (N,) float64, cosine of every row with its centroid; 0 for rows left out.
    inertia_ : float, 2 x sum of w (1 - cos): the sum of squared chords, scikit-learn's value.
    counts_ : (K,) int64. n_distinct_ : int, centroids that differ. n_iter_ : int, epochs of the last fit.
    history_ : History. stop_reason_ : StopReason. random_state_ : int, the seed. n_features_in_ : int, D.

    torch in, torch out on the same device; NumPy in, NumPy out.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        batch_size: int | None = None,
        epochs: int = 100,
        *,
        init: Any = "random",
        n_init: int = 1,
        tol: float = 0.0,
        random_state: Any = None,
        max_iter: int | None = None,
        verbose: int = 1,
        warm_start: bool = True,
        zero_rows: str = "warn",
        nonfinite: str = "error",
        empty_clusters: str = "move",
        backend: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.batch_size = batch_size
        self.epochs = epochs
        self.init = init
        self.n_init = n_init
        self.tol = tol
        self.random_state = random_state
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.zero_rows = zero_rows
        self.nonfinite = nonfinite
        self.empty_clusters = empty_clusters
        self.backend = backend

    # ------------------------------------------------------------------ fit

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Cluster rows X (N, D): torch tensor, NumPy array, memory map, list, DLPack object or file path.

        y is ignored. sample_weight (N,), nonnegative; integer weights equal repeated rows bit by bit.
        Raises OptionError, InputError, InputTypeError or FileError before any work is done.
        """
        options = self._options()
        self._check_init()
        tensor, kind = read_rows(self, X, reset=True)
        self._check_size(tensor, options)
        observer = self._watch(tensor.shape)
        with observer:
            backend = choose_backend(options.backend, tensor)
            rows = self._open(tensor, backend, observer, sample_weight)
            start = self._present_start(kind, options)
            if start is None:
                seed, result = self._fit_anew(rows, X, options, backend, observer)
                history = result.history
            else:
                seed, centroids = start
                self._say(f"going on from the present {len(centroids)} centers (warm_start=True)")
                result = lloyd.fit(rows, centroids, options, backend, Alone(), observer)
                history = History([*self.history_, *result.history])
            own = lloyd.own_scores(rows, result.centroids, result.labels, backend)
        self._keep(result, history, own, rows.total_weight, seed, kind)
        self._started_from_ = self._start_key()
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """`fit(X).labels_`."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def reset(self) -> Self:
        """Forget the fit: the next one starts anew."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        return self

    # ------------------------------------------------------------- new rows

    def predict(self, X: Any) -> Any:
        """Label of every row, (N,) int64; -1 for rows left out. Does not depend on the other rows or the batch."""
        rows, kind, backend, observer = self._open_fitted(X)
        with observer:
            labels = lloyd.predict(rows, self._centroids(), backend, observer)
        return kind.out(labels.to(torch.int64))

    def transform(self, X: Any) -> Any:
        """Cosine of every row with every centroid, (N, K) float32: higher is nearer. 0 for rows left out."""
        rows, kind, backend, _ = self._open_fitted(X)
        centroids = self._centroids()
        return kind.out(torch.cat([backend.cosines(batch, centroids) for batch in rows.batches()]))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Weighted mean cosine of the rows with their nearest centroids: higher is better."""
        rows, _, backend, observer = self._open_fitted(X, sample_weight)
        with observer:
            return lloyd.score(rows, self._centroids(), backend, Alone(), observer)[1]

    # ---------------------------------------------------- the tutorial's names

    @property
    def centers(self) -> Any:
        """The present centroids (K, D), or None. Setting them makes the next fit start there."""
        return getattr(self, "cluster_centers_", None)

    @centers.setter
    def centers(self, values: Any) -> None:
        shape = tuple(np.shape(values))
        if len(shape) != 2:
            raise OptionError(f"centers have shape {shape}; needed is (n_clusters, D), here ({self.n_clusters}, D).")
        kind = Kind(isinstance(values, Tensor), values.device if isinstance(values, Tensor) else torch.device("cpu"))
        centroids = read_centroids(values, (self.n_clusters, shape[1]), "centers", kind.device)
        self.reset()
        self.cluster_centers_ = kind.out(centroids)
        self.n_features_in_ = shape[1]
        self.history_ = History()
        self.random_state_ = self._draw_seed()
        self._started_from_ = self._start_key()

    @property
    def similarities(self) -> list[float]:
        """Mean similarity of every epoch so far."""
        return self.history_.similarities if hasattr(self, "history_") else []

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the convergence (needs matplotlib); with a path, write it there. Returns the figure."""
        check_is_fitted(self)
        return import_module("cosmeans.plot").plot_fit(self.history_, counts=self.counts_, path=path)

    # ----------------------------------------------------------------- files

    def save(self, folder: str | os.PathLike[str], force: bool = False) -> None:
        """Write the model into a folder (safetensors and JSON, docs/format.md). Overwrites only with force."""
        check_is_fitted(self, "counts_")
        options = {**self.get_params(), "random_state": self.random_state_, "init": _init_name(self.init)}
        state = ModelState(
            centroids=self._centroids(),
            counts=torch.as_tensor(self.counts_).cpu(),
            options=options,
            history=self.history_,
            seed=self.random_state_,
            stop_reason=self.stop_reason_,
            similarity=self._similarity_,
            library=__version__,
        )
        save_model(folder, state, force)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a saved model. It predicts the same bits, and `fit` goes on from it."""
        state = load_model(folder)
        known = set(cls().get_params())
        kmeans = cls(**{name: value for name, value in state.options.items() if name in known})
        kmeans.n_clusters, kmeans.n_features_in_ = state.centroids.shape
        kmeans.cluster_centers_ = state.centroids.numpy()
        kmeans.counts_ = state.counts.numpy()
        kmeans.history_, kmeans.n_iter_ = state.history, len(state.history)
        kmeans.random_state_, kmeans.stop_reason_ = state.seed, state.stop_reason
        kmeans.n_distinct_ = _n_distinct(state.centroids)
        kmeans._similarity_ = state.similarity
        kmeans._started_from_ = kmeans._start_key()
        return kmeans

    # --------------------------------------------------------------- private

    def _options(self) -> FitOptions:
        names = FitOptions.defaults()
        return FitOptions(**{name: value for name, value in self.get_params().items() if name in names})

    def _check_init(self) -> None:
        if isinstance(self.init, str) and self.init not in ("random", "k-means++"):
            raise OptionError(f'init must be "random", "k-means++", an array (K, D) or a callable; got {self.init!r}.')

    def _check_size(self, tensor: Tensor, options: FitOptions) -> None:
        n, d = tensor.shape
        k, batch = options.n_clusters, options.batch_size
        if n < k:
            raise TooFewRowsError(
                f"n_clusters={k} needs at least {k} rows, got n_samples={n}. Lower n_clusters or pass more rows."
            )
        if k == d and batch is not None and batch < min(n, _SMALL_BATCH):
            warnings.warn(
                f"n_clusters={k} equals the number of features: KMeans takes (n_clusters, batch_size, epochs), "
                f"and D is read from the rows. If {batch} clusters are meant, write KMeans({batch}).",
                ArgumentOrderWarning,
                stacklevel=3,
            )

    def _open(self, tensor: Tensor, backend: Backend, observer: Observer, sample_weight: Any = None) -> MemoryRows:
        return MemoryRows(
            tensor,
            squared_norms=backend.squared_norms,
            batch_size=self.batch_size,
            sample_weight=sample_weight,
            zero_rows=self.zero_rows,
            nonfinite=self.nonfinite,
            progress=observer.reading,
        )

    def _open_fitted(self, X: Any, sample_weight: Any = None) -> tuple[MemoryRows, Kind, Backend, Silent]:
        check_is_fitted(self, "cluster_centers_")
        options = self._options()
        tensor, kind = read_rows(self, X, reset=False)
        observer = self._watch(tensor.shape)
        backend = choose_backend(options.backend, tensor)
        return self._open(tensor, backend, observer, sample_weight), kind, backend, observer

    def _fit_anew(
        self, rows: MemoryRows, X: Any, options: FitOptions, backend: Backend, observer: Observer
    ) -> tuple[int, FitResult]:
        """The best of n_init runs, the first at a tie; given centroids are one run."""
        seed = self._draw_seed()
        best: FitResult | None = None
        for run in range(options.n_init if isinstance(self.init, str) else 1):
            centroids = self._first_centroids(rows, X, seed, run, backend, observer)
            result = lloyd.fit(rows, centroids, options, backend, Alone(), observer)
            if best is None or result.similarity > best.similarity:
                best = result
            if result.stop_reason is StopReason.INTERRUPTED:
                break
        assert best is not None  # n_init >= 1
        return seed, best

    def _first_centroids(
        self, rows: RowSource, X: Any, seed: int, run: int, backend: Backend, observer: Observer
    ) -> Tensor:
        k = self.n_clusters
        if isinstance(self.init, str):
            if self.init == "random":
                return seeding.random_rows(rows, k, seed, run)
            return seeding.plus_plus(rows, k, seed, backend, run, observer)
        values = self.init
        if callable(values):
            values = values(X, k, random_state=np.random.RandomState(seed % 2**32))
        return read_centroids(values, (k, rows.n_features), "init", rows.device)

    def _draw_seed(self) -> int:
        return int(check_random_state(self.random_state).randint(0, 2**63 - 1, dtype=np.int64))

    def _start_key(self) -> tuple[Any, ...]:
        return (self.n_clusters, self.n_features_in_, _content(self.init), _content(self.random_state))

    def _present_start(self, kind: Kind, options: FitOptions) -> tuple[int, Tensor] | None:
        """Seed and centroids to go on from; None: start anew."""
        if not options.warm_start or getattr(self, "_started_from_", None) != self._start_key():
            return None
        return self.random_state_, self._centroids().to(kind.device)

    def _centroids(self) -> Tensor:
        return torch.as_tensor(self.cluster_centers_, dtype=torch.float32).cpu().contiguous()

    def _keep(
        self, result: FitResult, history: History, own: Tensor, total_weight: float, seed: int, kind: Kind
    ) -> None:
        self.cluster_centers_ = kind.out(result.centroids)
        self.labels_ = kind.out(result.labels.to(torch.int64))
        self.similarity_ = kind.out(own)
        self.counts_ = kind.out(result.counts)
        self.n_distinct_ = _n_distinct(result.centroids)
        self.inertia_ = max(0.0, 2.0 * total_weight * (1.0 - result.similarity))
        self.n_iter_ = len(result.history)
        self.history_ = history
        self.random_state_ = seed
        self.stop_reason_ = result.stop_reason
        self._similarity_ = result.similarity
        if self.n_distinct_ < self.n_clusters:
            warnings.warn(
                f"n_clusters={self.n_clusters}, but only {self.n_distinct_} centroids are distinct: the rows point in "
                "too few different directions. Lower n_clusters.",
                DistinctRowsWarning,
                stacklevel=3,
            )

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn names the columns of `transform` by."""
        return self.n_clusters

    def _watch(self, shape: torch.Size) -> Silent:
        """Whoever shows progress: what the command line set, or bars by `verbose`."""
        flops = 2 * self.n_clusters * shape[1] if self.verbose > 1 else 0
        return vars(self).get("_observer") or watch(shape[0], flops_per_row=flops, verbose=self.verbose)

    def _say(self, line: str) -> None:
        if self.verbose:
            sys.stderr.write(f"cosmeans: {line}\n")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def choose_backend(name: str, rows: Tensor) -> Backend:
    """The backend asked for, or the fastest that can run on these rows."""
    if rows.device.type != "cpu":
        raise BackendUnavailableError(
            f"The rows lie on {rows.device}; this version computes on the CPU only. Pass x.cpu()."
        )
    return ReferenceBackend() if name == "reference" else CpuBackend()


def _n_distinct(centroids: Tensor) -> int:
    return len(torch.unique(centroids, dim=0))


def _content(value: Any) -> Any:
    """Something that is equal exactly if a parameter still means the same."""
    if value is None or isinstance(value, str | int | np.integer):
        return value
    if callable(value) or isinstance(value, np.random.RandomState):
        return f"{type(value).__name__} {id(value)}"
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return hashlib.sha256(repr((array.shape, array.dtype)).encode() + array.tobytes()).hexdigest()


def _init_name(init: Any) -> str:
    """Given first centroids are not saved: the model's own centroids stand for them."""
    return init if isinstance(init, str) else "random"
