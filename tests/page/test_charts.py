"""The marks of the charts are where the values say."""

import re

import numpy as np
import pytest

from cosmeans import History, Iteration
from cosmeans.page import charts


def history(similarity, changed):
    return History([Iteration(s, 0.1, c, 0, 1.0, 9, 0) for s, c in zip(similarity, changed, strict=True)])


def value_at(chart, y):
    """Read a value off the axis, as a reader does: linear between two ticks."""
    (y0, a), (y1, b) = ((at, float(re.sub(r"[^\d.-]", "", text))) for at, text in chart.y_ticks[:2])
    return a + (y - y0) * (b - a) / (y1 - y0)


def test_convergence_draws_every_epoch_where_its_value_is():
    similarity, changed = [0.2, 0.5, 0.55, 0.6], [1000, 200, 0, 10]

    first, second = charts.convergence(history(similarity, changed), 1000)

    assert [value_at(first, y) for _, y, _ in first.dots] == pytest.approx(similarity, abs=1e-9)
    assert [said for *_, said in first.dots] == [f"epoch {i}: {s:.4f}" for i, s in enumerate(similarity, 1)]
    # a logarithmic axis: a tenth is one step; an epoch without a change has no place on it
    height = {text: y for y, text in second.y_ticks}
    drawn = {said: y for *_, y, said in second.dots}
    assert list(drawn) == [f"epoch {i}: {p}\N{NO-BREAK SPACE}%" for i, p in ((1, 100), (2, 20), (4, 1))]
    assert drawn["epoch 1: 100\N{NO-BREAK SPACE}%"] == pytest.approx(height["100\N{NO-BREAK SPACE}%"])
    assert drawn["epoch 4: 1\N{NO-BREAK SPACE}%"] == pytest.approx(height["1\N{NO-BREAK SPACE}%"])


@pytest.mark.parametrize("epochs", [1, 2, 500])
def test_any_number_of_epochs_stays_within_the_box(epochs):
    values = np.linspace(0.1, 0.9, epochs)
    for chart in charts.convergence(history(values, np.arange(epochs)), epochs):
        places = np.array([dot[:2] for dot in chart.dots]).reshape(-1, 2)
        assert np.isfinite(places).all()
        assert ((places >= 0) & (places <= (charts.WIDTH, charts.HEIGHT))).all()
        assert all(0 <= x <= charts.WIDTH for x, _ in chart.x_ticks)
        assert chart.x_ticks[0][1] == "1"


def test_an_axis_of_shares_starts_at_nothing_and_ends_where_they_do():
    _, second = charts.convergence(history([0.2, 0.5], [100, 30]), 100)
    assert second.y_ticks[0][1].startswith("0")
    assert second.y_ticks[-1][1].startswith("100")
    _, only_one = charts.convergence(history([0.2, 0.5], [100, 0]), 100)
    assert max(float(text.split("\N{NO-BREAK SPACE}")[0]) for _, text in only_one.y_ticks) == 100


@pytest.mark.parametrize(("low", "high"), [(0.1, 1.0), (0.19, 1.02), (0, 1), (3, 700), (0.5999, 0.6001)])
def test_every_axis_has_two_to_six_ticks(low, high):
    ticks = charts.ticks_of(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)


def test_sizes_fall_from_the_largest_to_the_smallest():
    chart = charts.sizes(np.array([5, 20, 10]))

    heights = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)H", chart.path)]
    assert [value_at(chart, y) for y in heights] == pytest.approx([20, 10, 5], abs=0.1)
    assert chart.note == "5 to 20, median 10"


def test_the_histogram_counts_every_row_once():
    similarity = np.random.default_rng(0).uniform(0.1, 0.9, 1000)
    chart = charts.histogram(similarity, 0.2)

    heights = [float(y) for y in re.findall(r"V([\d.]+)H", chart.path)]
    assert sum(value_at(chart, y) for y in heights) == pytest.approx(1000, rel=0.01)
    assert chart.rule[1:] == ("0.20", "start"), "no room for words between the axis and the line"
    assert charts.histogram(similarity, 0.5).rule[1:] == ("0.50", "end")
    assert charts.histogram(similarity, 0.05).rule is None, "no row is below"
    assert charts.histogram(np.full(9, 0.5), 0.5).path.count("M") == 1
