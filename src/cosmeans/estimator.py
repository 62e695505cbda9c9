"""`KMeans`: the tutorial's face and scikit-learn's contract over one exact answer."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import Tags
from torch import Tensor
from torch.utils.data import TensorDataset

from cosmeans import sphere
from cosmeans._estimator import conversions
from cosmeans._estimator.cosines import cosines_of
from cosmeans._estimator.file_labels import FileLabels, files_for, write_fit
from cosmeans._estimator.fitted_state import SAVED, Array, HoldsFit, state_of
from cosmeans._estimator.fitting import fit_rows
from cosmeans._estimator.initialization import draw_seed, start_key
from cosmeans._estimator.inputs import Kind, read_centroids, read_rows
from cosmeans._estimator.opening import open_fitted, options_of
from cosmeans.calls import public
from cosmeans.choices import BackendName, EmptyClusters, InitName, Nonfinite, ProjectionName, Strategy, ZeroRows
from cosmeans.containers.converted import on_host
from cosmeans.digests import model_digest
from cosmeans.model_file import load_model, save_model
from cosmeans.options import FitOptions
from cosmeans.paths import as_path
from cosmeans.plot import plot_fit
from cosmeans.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]
TensorRows = Tensor | Sequence[Tensor] | TensorDataset


class KMeans(HoldsFit[Array], ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Spherical k-means: rows and centroids of unit length, similarity is the cosine.

    Labels are the argmax of canonical scores and centroids come from exact sums, so the result has the same bits on
    every device, for any batch size and thread count, in one fit or continued (docs/algorithm.md). Results for tensors
    are tensors on the same device, for arrays NumPy arrays. All but centers and cluster_centers_ are read-only.

    Parameters
    ----------
    n_clusters : int, default 8
        Number of clusters K.
    batch_size : int or None, default None
        Rows held in working memory at once, or a few megabytes if that is more; default: by memory.
    epochs : int, default 100
        Maximum number of passes over the rows; a fit ends earlier when no centroid moves.
    init : "random", "k-means++", "nested", array (K, D) or callable(X, n_clusters, random_state), default "random"
        How the first centroids are chosen. "nested" improves random rows on growing samples first: the most similarity
        for the least time (docs/cpu.md).
    n_init : int, default 1
        Number of starts; the run with the highest similarity is kept, the first at a tie.
    tol : float, default 0.0
        Convergence tolerance: stop when no centroid moves farther than this; 0 runs to the fixed point. It is measured
        as the distance of two unit vectors, from 0 to 2.
    random_state : int, RandomState or None, default None
        Seed of every random choice; the same seed gives the same answer. None draws one, which is kept in
        `random_state_`.
    max_iter : int or None, default None
        Another name for epochs.
    verbose : int, default 1
        0: silent; 1: progress and time left of work that takes a while; 2: with rates.
    warm_start : bool, default True
        A second fit continues from the current centers, unless K, D, init or random_state changed.
    zero_rows : "warn", "skip" or "error", default "warn"
        Rows of zeros: label -1 with a warning, label -1 without one, or an error.
    nonfinite : "error" or "skip", default "error"
        Rows with NaN or infinity: an error, or label -1.
    empty_clusters : "move", "keep" or "error", default "move"
        A cluster without rows moves to the worst-fitting row, keeps its centroid, or is an error.
    backend : "auto", "cpu", "gpu" or "reference", default "auto"
        Compute backend; never changes the result.
    strategy : "auto", "float32", "split", "pca" or "int8", default "auto"
        How the CPU finds labels; "auto" chooses before every pass; never changes the result (docs/cpu.md).
    memory_limit : int, str such as "8GB" or None, default None
        Bytes of memory for what is kept of the rows; default: for rows that are decoded from files or come in batches a
        quarter of what is free, else 128 MiB or more: a quarter of the rows less 600 MiB, so that a process takes a
        quarter more than its rows.
    device_memory_limit : int, str such as "8GB" or None, default None
        Bytes of a GPU's memory for rows and what is kept of them; default: all that is free; no effect on a CPU. 256
        MiB of it are left to libraries and kernels.
    cache : str, Path or None, default None
        A folder for a copy of rows that do not fit into memory_limit: decoded ones, which are decoded in every pass
        without one, and float32 rows of mapped files, of which most passes on a CPU then read half. The copy stays
        there for the next fit.
    checkpoint : str, Path or None, default None
        A folder where a fit keeps how far it is, so that the same call goes on after its process has ended; never
        changes the result (docs/tasks/interrupted.md).
    resume : "auto", True or False, default "auto"
        Whether to go on from a checkpoint: if there is one, always (else it is an error), or never.
    checkpoint_seconds : float, default 30.0
        How often a checkpoint is written: after the first epoch that ends so long after the last.
    device : "auto", "cpu", "cuda" or "cuda:1", default "auto"
        Where to compute; "auto" takes a GPU if there is one; never changes the result.

    Attributes
    ----------
    centers, cluster_centers_ : array, (K, D) float32
        The centroids, of unit length. Both can be set: centroids are checked, scaled and used by `predict`, the next
        fit starts from them, and earlier results are dropped. `centers` is None before the first fit.
    similarities : list of float
        Mean cosine of every epoch, before its update; joined over continued fits.
    labels_ : array, (N,) int64
        Labels under exactly `cluster_centers_`; -1 for rows left out. For 2^22 or more rows of files, it and
        similarity_ are mapped from a file and not part of pickles.
    similarity_ : array, (N,) float64
        Cosine of every row with its centroid, -1 to 1; 0 for rows left out.
    inertia_ : float
        Sum of w |x - c|^2 over the unit rows: scikit-learn's value, with all its digits.
    counts_ : array, (K,) int64
        Rows of each cluster.
    n_distinct_ : int
        Centroids that differ by a chord above 2^-20, which is more than rounding.
    n_iter_ : int
        Epochs of the last fit.
    history_ : History
        Every epoch, with those of the fits that this one continues.
    stop_reason_ : StopReason
        Why the last fit ended.
    random_state_ : int
        The seed.
    n_features_in_ : int
        D.
    feature_names_in_ : array, (D,) str
        Names of the columns, where the rows of the fit had names.
    costs_ : tuple of EpochCost
        What each epoch of the last fit cost here; not part of pickles and model folders.

    Examples
    --------
    >>> from cosmeans import KMeans
    >>> from cosmeans.demo_data import sample
    >>> rows, texts = sample()
    >>> kmeans = KMeans(60, random_state=0, verbose=0).fit(rows)
    >>> kmeans.labels_.shape, kmeans.cluster_centers_.shape
    ((6000,), (60, 384))
    >>> print(f"{kmeans.similarities[-1]:.4f} after {kmeans.n_iter_} epochs: {kmeans.stop_reason_}")
    0.4755 after 33 epochs: fixed point
    """

    def __init__(
        self,
        n_clusters: int = 8,
        batch_size: int | None = None,
        epochs: int = 100,
        *,
        init: InitName | ArrayLike | Tensor | Callable[..., Any] = "random",
        n_init: int = 1,
        tol: float = 0.0,
        random_state: int | np.random.RandomState | None = None,
        max_iter: int | None = None,
        verbose: int = 1,
        warm_start: bool = True,
        zero_rows: ZeroRows = "warn",
        nonfinite: Nonfinite = "error",
        empty_clusters: EmptyClusters = "move",
        backend: BackendName = "auto",
        strategy: Strategy = "auto",
        memory_limit: int | str | None = None,
        device_memory_limit: int | str | None = None,
        cache: PathLike | None = None,
        checkpoint: PathLike | None = None,
        resume: bool | Literal["auto"] = "auto",
        checkpoint_seconds: float = 30.0,
        device: str = "auto",
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
        self.strategy = strategy
        self.memory_limit = memory_limit
        self.device_memory_limit = device_memory_limit
        self.cache = cache
        self.checkpoint = checkpoint
        self.resume = resume
        self.checkpoint_seconds = checkpoint_seconds
        self.device = device

    # ------------------------------------------------------------------ fit

    @overload
    def fit(
        self, X: TensorRows, y: Any = None, sample_weight: Any = None, *, labels_out: PathLike | None = None
    ) -> KMeans[Tensor]: ...
    @overload
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, labels_out: PathLike | None = None) -> Self: ...
    @public
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, labels_out: PathLike | None = None) -> Any:
        """Cluster rows X (N, D): an array, tensor, list, frame, file path, batches (docs/inputs.md).

        y is ignored. sample_weight (N,), nonnegative. Integer weights equal repeated rows bit by bit for given first
        centroids, init="random", and init="k-means++" up to 256 K rows on both sides; not for init="nested". A
        multiple of integer weights starts alike; docs/differences.md says what else holds.
        labels_out: for rows of files, a new folder that gets a table of labels for each of them (docs/outputs.md).
        Raises OptionError, InputError, InputTypeError or FileError before any work is done.
        """
        state, tables = fit_rows(self, self._state, X, sample_weight, labels_out)
        self._state = state
        conversions.warn_of_copies(state)
        if tables is not None:
            write_fit(tables, state)
        return self

    @overload
    def fit_predict(self, X: TensorRows, y: Any = None, sample_weight: Any = None) -> Tensor: ...
    @overload
    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[Any]: ...
    @public
    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """`fit(X).labels_`."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def reset(self) -> Self:
        """Forget the fit: the next one starts from scratch."""
        self._state = None
        return self

    # ------------------------------------------------------------- new rows

    @overload
    def predict(self, X: TensorRows, *, labels_out: PathLike | None = None) -> Tensor: ...
    @overload
    def predict(self, X: Any, *, labels_out: PathLike | None = None) -> NDArray[Any]: ...
    @public
    def predict(self, X: Any, *, labels_out: PathLike | None = None) -> Any:
        """Label of every row, (N,) int64; -1 for rows left out. Does not depend on the other rows or the batch.

        labels_out: for rows of files, a folder that gets a table of labels for each of them (docs/outputs.md). Tables
        that an earlier call has finished there are kept, and labels are read from them.
        """
        if labels_out is not None:
            rows = files_for(read_rows(X)[0])
            return FileLabels(self, rows).predict(as_path(labels_out, "labels_out"))
        with open_fitted(self, X) as (session, kind, centroids):
            return kind.out(session.assign(centroids).to(torch.int64))

    @overload
    def transform(self, X: TensorRows, *, out: None = None) -> Tensor: ...
    @overload
    def transform(self, X: Any, *, out: PathLike | None = None) -> NDArray[Any]: ...
    @public
    def transform(self, X: Any, *, out: PathLike | None = None) -> Any:
        """Cosine of every row with every centroid, (N, K) float32 in [-1, 1]: higher is nearer. 0 for rows left out.

        out: a new .npy file, where they are written piece by piece; what is returned is mapped from it. Rows of files
        whose cosines exceed memory_limit (default: a quarter of the free memory) need it.
        """
        return cosines_of(copy.copy(self), X, out)

    @public
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Weighted mean cosine of the rows with their nearest centroids: higher is better."""
        with open_fitted(self, X, sample_weight) as (session, _, centroids):
            session.rows.need_weight()
            return sphere.clipped_mean(session.measure(centroids).similarity)

    # ---------------------------------------------------- the tutorial's names

    @property
    def centers(self) -> Array | None:
        """The present centroids (K, D), or None. Setting them makes the next fit start there."""
        state = self._state
        return None if state is None else state.cluster_centers_

    @centers.setter
    @public
    def centers(self, values: Any) -> None:
        self._set_centers(values, "centers")

    @property
    def similarities(self) -> list[float]:
        """Mean similarity of every epoch so far."""
        state = self._state
        return [] if state is None else state.history_.similarities

    @public
    def digest(self) -> str:
        """64 hexadecimal digits, equal for models whose centroids and similarities have the same bits (docs/format.md).

        Saving, loading and pickling keep it. Labels have one of their own: `cosmeans.label_digest(kmeans.labels_)`.
        """
        state = state_of(self)
        last = [] if state.mean_similarity is None else [state.mean_similarity]
        return model_digest(state.centroids(), [*state.history_.similarities, *last])

    @public
    def plot(self, path: PathLike | None = None) -> Figure:
        """Draw the convergence (needs matplotlib); with a path, write it there. Returns the figure."""
        model = copy.copy(self)
        return plot_fit(model.history_, counts=on_host(model.counts_).numpy(), path=path)

    @public
    def report(
        self,
        X: Any,
        path: PathLike,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[str] | None = None,
        ids: Sequence[Any] | None = None,
        links: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any]] | None = None,
        names: Mapping[Any, str] | str | os.PathLike[str] | None = None,
        title: str = "Clusters",
        n_examples: int = 5,
        sample: int = 10_000,
        projection: ProjectionName = "auto",
        force: bool = False,
    ) -> Path:
        """Write a page about the clusters of rows X and their texts: `cosmeans.report.write_report`, docs/report.md."""
        from cosmeans.page.write import write_page  # a dozen modules that few need

        model = copy.copy(self)  # one fit, whatever is fitted meanwhile
        return write_page(
            model,
            partial(open_fitted, model, X),
            path,
            texts=texts,
            images=images,
            ids=ids,
            links=links,
            columns=columns,
            names=names,
            title=title,
            n_examples=n_examples,
            sample=sample,
            projection=projection,
            force=force,
        )

    # ----------------------------------------------------------------- files

    @public
    def save(self, folder: PathLike, force: bool = False) -> None:
        """Write the model into a folder (safetensors and JSON, docs/format.md).

        A folder that this object has saved is replaced if nobody changed it since, any other model only with force.
        Raises OutputExistsError for whatever else is there.
        """
        model = copy.copy(self)
        state = state_of(model)
        options = FitOptions.plain(model.get_params())
        saved, place = vars(self).setdefault(SAVED, {}), os.path.abspath(as_path(folder, "folder"))
        values = conversions.to_model(state, options, model.init, __version__)
        saved[place] = save_model(folder, values, force, saved.get(place))

    @classmethod
    @public
    def load(cls, folder: PathLike) -> Self:
        """Read a saved model. It predicts the same bits, and `fit` continues from it.

        What belongs to the rows of its fit (labels_, similarity_, inertia_) was not saved.
        """
        model = load_model(folder)
        k, d = model.centroids.shape
        kmeans = cls(**conversions.portable(model.options, set(cls().get_params())) | {"n_clusters": k})
        key = start_key(k, d, kmeans.init, None, kmeans.random_state)
        kmeans._state = replace(conversions.from_model(model), started_from=key)
        return kmeans

    # --------------------------------------------------------------- private

    def _set_centers(self, values: Any, name: str) -> None:
        options = options_of(self)
        device = values.device if isinstance(values, Tensor) else torch.device("cpu")
        centroids = read_centroids(values, (options.n_clusters, None), name, device)
        kind = Kind(isinstance(values, Tensor), device)
        self._state = conversions.from_centers(centroids, draw_seed(self.random_state), kind)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
