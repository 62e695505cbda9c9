"""The script of the tutorial runs as it is, but for its import; its numbers are those of its own loop in float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import truth
from cosmeans import KMeans

SCRIPT = """
import torch
import matplotlib.pyplot as plt

from cosmeans import KMeans

n, d, n_clusters, batch_size, epochs = 4000, 32, 20, 64, 10

torch.manual_seed(0)
x = torch.randn(n, d)
x = x / x.norm(dim=1, keepdim=True)

kmeans = KMeans(n_clusters, batch_size, epochs)
kmeans.fit(x)

plt.plot(kmeans.similarities)
plt.xlabel("epoch")
plt.ylabel("mean cosine similarity")
plt.show()
"""


def loop(x, centers, epochs):
    """The tutorial in float64: assign by the largest cosine, note the mean, sum, normalise."""
    x, centers = x.astype(np.float64), centers.astype(np.float64)
    similarities = []
    for _ in range(epochs):
        cosines = x @ centers.T
        labels = cosines.argmax(axis=1)
        similarities.append(cosines.max(axis=1).mean())
        sums = np.eye(len(centers))[labels].T @ x
        centers = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return similarities, centers


@pytest.fixture
def script():
    """The names that the script leaves behind."""
    pytest.importorskip("matplotlib").use("Agg")
    names = {}
    exec(compile(SCRIPT, "tutorial", "exec"), names)
    yield names
    names["plt"].close("all")


def test_the_script_draws_ten_rising_similarities(script):
    (line,) = script["plt"].gca().lines

    assert line.get_ydata().tolist() == script["kmeans"].similarities
    assert len(script["kmeans"].similarities) == 10
    assert (np.diff(script["kmeans"].similarities) > 0).all()
    assert script["kmeans"].centers.shape == (20, 32)
    assert script["kmeans"].labels_.shape == (4000,)


def test_the_first_centers_of_the_script_are_rows(script):
    x, kmeans = script["x"], script["kmeans"]
    first = torch.from_numpy(truth.random_start(x.numpy(), 20, kmeans.random_state_))

    assert ((first[:, None] == x).all(dim=2).sum(dim=1) == 1).all()
    similarities, _ = loop(x.numpy(), first.numpy(), 10)
    np.testing.assert_allclose(kmeans.similarities, similarities, rtol=0, atol=2**-24)


def test_similarities_are_those_of_the_loop_in_float64():
    torch.manual_seed(1)
    x = functional.normalize(torch.randn(20_000, 64), dim=1)
    first = x[torch.randperm(len(x))[:50]]
    kmeans = KMeans(50, 512, 10)
    kmeans.centers = first

    kmeans.fit(x)

    similarities, centers = loop(x.numpy(), first.numpy(), 10)
    np.testing.assert_allclose(kmeans.similarities, similarities, rtol=0, atol=2**-24)
    np.testing.assert_allclose(kmeans.centers, centers, rtol=0, atol=2**-20)


def test_the_second_fit_goes_on_with_the_loop(capsys):
    torch.manual_seed(2)
    x = functional.normalize(torch.randn(5000, 32), dim=1)
    kmeans = KMeans(20, 64, 5)
    kmeans.centers = x[:20]

    kmeans.fit(x)
    kmeans.fit(x)

    similarities, _ = loop(x.numpy(), x[:20].numpy(), 10)
    np.testing.assert_allclose(kmeans.similarities, similarities, rtol=0, atol=2**-24)
    assert "continuing from the current 20 centers" in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [None, 1, 7, 64, 5000])
def test_the_batch_size_is_speed_only(batch_size):
    x = functional.normalize(torch.randn(1000, 16, generator=torch.Generator().manual_seed(3)), dim=1)

    kmeans, whole = (KMeans(10, size, 5, random_state=0, verbose=0).fit(x) for size in (batch_size, 1000))

    assert torch.equal(kmeans.centers, whole.centers)
    assert kmeans.similarities == whole.similarities
