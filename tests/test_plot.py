"""Plots show the numbers of the history: lines are read back from the axes."""

import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from cosmeans import KMeans
from cosmeans.analysis.choose_k import Point
from cosmeans.analysis.runs import Run
from cosmeans.errors import WriteError
from cosmeans.plot import plot_choice, plot_fit, plot_history
from cosmeans.result import History, Iteration

matplotlib.use("Agg")


@pytest.fixture
def history():
    def epoch(similarity, changed, imbalance):
        return Iteration(similarity, 0.1, changed, 0, imbalance, 50, 0)

    return History([epoch(0.2, 100, 1.9), epoch(0.3, 10, 1.5), epoch(0.31, 0, 1.4)])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    matplotlib.pyplot.close("all")


def points(axes):
    return [list(values) for values in axes.lines[0].get_data()]


def test_similarity_is_drawn_per_epoch(history):
    assert points(plot_history(history)) == [[1, 2, 3], [0.2, 0.3, 0.31]]
    assert points(plot_history([0.5, 0.6])) == [[1, 2], [0.5, 0.6]]


def test_an_axis_of_the_caller_is_drawn_on(history):
    axes = Figure().subplots()

    assert plot_history(history, ax=axes) is axes
    assert points(axes)[1] == [0.2, 0.3, 0.31]


def test_the_panels_show_changed_rows_imbalance_and_sizes(history):
    figure = plot_fit(history, counts=np.array([1, 50, 20, 29]))

    similarity, changed, imbalance, sizes = figure.axes
    assert points(similarity)[1] == [0.2, 0.3, 0.31]
    np.testing.assert_array_equal(points(changed)[1], [100.0, 10.0, np.nan])  # no zero on a logarithmic axis
    assert points(imbalance)[1] == [1.9, 1.5, 1.4]
    outline = sizes.collections[0].get_paths()[0].vertices
    assert set(outline[:, 1]) >= {50, 29, 20, 1}
    assert sizes.get_yscale() == "log"


def test_without_counts_there_is_no_panel_of_sizes(history):
    assert len(plot_fit(history).axes) == 3


def test_a_fit_of_no_epoch_can_be_drawn(tmp_path):
    plot_fit(History(), counts=[3, 3], path=tmp_path / "plot.png")

    assert (tmp_path / "plot.png").stat().st_size > 0


def test_a_picture_is_written_whole_or_not_at_all(history, tmp_path, monkeypatch):
    path = tmp_path / "plot.png"
    plot_fit(history, path=path)
    first = path.read_bytes()

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(WriteError, match="No space left to write"):
        plot_fit(history, path=path)

    assert first.startswith(b"\x89PNG")
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["plot.png"]


def test_a_fitted_model_plots_itself():
    rows = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    kmeans = KMeans(3, random_state=0, verbose=0).fit(rows)

    similarity, *_, sizes = kmeans.plot().axes

    assert points(similarity)[1] == kmeans.similarities
    assert sizes.get_xlim() == (0, 3)


RUNS = [Run(k, s, 0.3 + 0.01 * s, 0.10 + k / 1000 + 0.02 * s, 3, 0.0) for k in (2, 4) for s in (0, 1, 2)]
POINTS = [Point(k, 0.31, 0.12 + k / 1000, 0.04, 0.9) for k in (2, 4)]


def test_a_choice_shows_the_range_over_the_seeds_on_axes_that_start_at_0():
    """The best run is the second: its point is 0.02 above the lowest and 0.02 below the highest."""
    silhouette, stability, similarity = plot_choice(4, POINTS, RUNS).axes

    for axes, values, reach in ((silhouette, (0.122, 0.124), 0.02), (similarity, (0.31, 0.31), 0.01)):
        (bars,) = axes.containers
        ends = [segment[:, 1].tolist() for segment in bars[2][0].get_segments()]
        np.testing.assert_allclose(ends, [[value - reach, value + reach] for value in values])
        assert axes.get_ylim()[0] == 0.0
        assert axes.get_ylim()[1] > max(values) + reach
    assert stability.get_ylim()[0] == 0.0
    assert points(stability)[1] == [0.9, 0.9]


def test_one_seed_has_no_stability_and_values_below_0_are_seen():
    points_ = [Point(k, -0.2, 0.1, 0.0, None) for k in (2, 4)]
    runs = [Run(k, 0, -0.2, 0.1, 3, 0.0) for k in (2, 4)]

    silhouette, similarity = plot_choice(4, points_, runs).axes

    assert "seeds" not in silhouette.get_title(loc="left")
    assert similarity.get_ylim()[0] < -0.2


class Kernel:
    """What IPython has in a notebook; in a terminal it has no kernel."""

    kernel = object()


@pytest.mark.parametrize(("shell", "shown_by_pyplot"), [(Kernel(), False), (object(), True), (None, True)])
def test_a_figure_is_pyplots_outside_a_notebook_and_drawn_once_in_one(shell, shown_by_pyplot, history, monkeypatch):
    if shell is not None:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    figure = plot_fit(history)

    assert isinstance(figure, Figure)
    assert figure.number in matplotlib.pyplot.get_fignums() if shown_by_pyplot else not matplotlib.pyplot.get_fignums()
    if not shown_by_pyplot:
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_figure_that_is_written_is_not_shown(history, tmp_path):
    plot_fit(history, path=tmp_path / "plot.png")

    assert not matplotlib.pyplot.get_fignums()


def test_without_matplotlib_the_way_to_it_is_told(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ImportError, match=r'pip install "cosmeans\[plot\]"'):
        plot_fit(history)
