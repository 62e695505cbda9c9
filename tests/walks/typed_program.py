"""A program as a user writes it, for type checkers: what they reveal is stated by `assert_type`, and checked."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import TensorDataset

from cosmeans import (
    History,
    Iteration,
    KMeans,
    StopReason,
    choose_k,
    deduplicate,
    evaluate,
    exemplars,
    match,
    members,
    outliers,
    reorder,
    top,
    topics,
)
from cosmeans.analysis.dedup import Duplicates
from cosmeans.analysis.queries import Exemplars, Outliers, Top
from cosmeans.demo_data import sample
from cosmeans.report import write_report

Array = NDArray[Any]


def arrays() -> None:
    """NumPy in, NumPy out; it is the default."""
    x, texts = sample()
    kmeans = KMeans(60, epochs=20, init="k-means++", random_state=0, zero_rows="skip", verbose=0).fit(x)
    assert_type(kmeans, KMeans[Array])
    assert_type(kmeans.labels_, Array)
    assert_type(kmeans.similarity_, Array)
    assert_type(kmeans.cluster_centers_, Array)
    assert_type(kmeans.counts_, Array)
    assert_type(kmeans.history_, History)
    assert_type(kmeans.stop_reason_, StopReason)
    assert_type(kmeans.inertia_, float)
    assert_type(kmeans.n_iter_ + kmeans.random_state_ + kmeans.n_features_in_, int)
    assert_type(kmeans.similarities, list[float])
    assert_type(kmeans.predict(x), Array)
    assert_type(kmeans.transform(x), Array)
    assert_type(kmeans.fit_predict(x), Array)
    assert_type(kmeans.fit_transform(x), Array)
    assert_type(kmeans.set_params(n_clusters=50), KMeans[Array])
    assert_type(kmeans.get_params(), dict[str, Any])
    assert_type(kmeans.score(x), float)
    assert_type(KMeans(3, verbose=0).fit_predict([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), Array)
    results(kmeans, x)
    assert_type(kmeans.report(x, "report.html", texts=texts, title="Topics", n_examples=3, projection="pca"), Path)
    assert_type(write_report(kmeans, x, "report.html", texts=texts, force=True), Path)
    kmeans.save("model")
    assert_type(KMeans.load("model"), KMeans[Array])


def results(kmeans: KMeans, x: Array) -> None:
    best = exemplars(kmeans, x, m=5)
    assert_type(best, Exemplars[Array])
    assert_type(best.cosines[:, 4].argsort()[::-1], NDArray[np.intp])
    assert_type(top(kmeans, x).labels, Array)
    assert_type(outliers(kmeans, x, threshold=0.2).threshold, float)
    assert_type(evaluate(kmeans, x).silhouette, float | None)
    assert_type(choose_k(x, [2, 4], n_seeds=2, init="random", verbose=0).points[0].stability, float | None)
    assert_type(topics(kmeans, x, sample()[1]).words, list[list[str]])
    assert_type(members(kmeans, x, 0).rows, Array)
    assert_type(kmeans.history_[0], Iteration)
    assert_type(kmeans.history_[1:], History)
    assert_type(deduplicate(kmeans, x, keep="farthest").kept, Array)
    assert_type(match(kmeans, kmeans).cosines, np.ndarray)
    assert_type(reorder(kmeans), KMeans[Array])


def tensors() -> None:
    """Tensors in, tensors out."""
    x = torch.randn(1000, 16)
    kmeans = KMeans(8, verbose=0).fit(x)
    assert_type(kmeans, KMeans[Tensor])
    assert_type(kmeans.labels_, Tensor)
    assert_type(kmeans.cluster_centers_, Tensor)
    assert_type(kmeans.predict(x), Tensor)
    assert_type(kmeans.predict(TensorDataset(x)), Tensor)
    assert_type(kmeans.transform(x), Tensor)
    assert_type(kmeans.fit_predict(x), Tensor)
    assert_type(kmeans.fit_transform(x), Tensor)
    assert_type(top(kmeans, x), Top[Tensor])
    assert_type(outliers(kmeans, x), Outliers[Tensor])
    assert_type(deduplicate(kmeans, x), Duplicates[Tensor])


def a_tensor_later() -> Tensor:
    """A model that is fitted after it was named."""
    kmeans: KMeans[Tensor] = KMeans(8, verbose=0)
    kmeans.fit(torch.randn(1000, 16))
    kmeans.centers = kmeans.cluster_centers_.flip(0)
    return kmeans.cluster_centers_


if __name__ == "__main__":
    arrays()
    tensors()
    a_tensor_later()
