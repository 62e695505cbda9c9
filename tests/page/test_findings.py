"""Each warning appears when its rule says so, and not before."""

import re

import numpy as np
import pytest

from cosmeans import History, Iteration, KMeans, StopReason
from cosmeans.page.findings import findings, flag, odd_rows
from cosmeans.page.statistics import Nearest, Placed, describe
from cosmeans.report import write_report


def case(sizes, means=None, twins=0.5, spoiled=()):
    """Clusters of these sizes, rows in order; every row within 0.01 of its cluster's mean similarity."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    means = np.full(len(sizes), 0.6) if means is None else np.asarray(means, float)
    similarity = means[labels] + 0.01 * np.cos(np.arange(len(labels)))
    for row, value in spoiled:
        similarity[row] = value
    placed = Placed(labels, similarity, 0, 0, -1)
    near = Nearest(np.roll(np.arange(len(sizes)), 1)[:, None], np.full((len(sizes), 1), twins, np.float32))
    clusters = describe(placed, len(sizes), 3)
    return placed, clusters, flag(placed, clusters, near)


def told(sizes, stop=StopReason.FIXED_POINT, changed=0, fitted=None, left_out=None, **options):
    """The titles of all findings, and their texts joined."""
    placed, clusters, flags = case(sizes, **options)
    if left_out:
        placed = Placed(placed.labels, placed.similarity, *left_out)
    epochs = History([Iteration(0.5, 0.1, changed, 0, 1.0, max(sizes), 0)])
    found = findings(placed, clusters, flags, epochs, stop, np.asarray(sizes if fitted is None else fitted))
    return [finding.title for finding in found], " ".join(finding.text for finding in found)


EVEN = [40] * 20


def test_an_even_model_at_its_fixed_point_is_not_worth_a_warning():
    assert told(EVEN) == ([], "")


def test_near_twins_start_at_their_threshold():
    assert told(EVEN, twins=0.961)[0] == ["20 clusters with a near twin"]
    assert told(EVEN, twins=0.959)[0] == []


@pytest.mark.parametrize(("rows", "is_tiny"), [(1, True), (5, True), (6, False)])
def test_tiny_clusters_have_at_most_a_twentieth_of_the_mean(rows, is_tiny):
    sizes = [110] * 19 + [rows]  # the mean is 104.75 to 105; a twentieth 5.2
    assert case(sizes)[2].tiny.tolist() == [False] * 19 + [is_tiny]
    assert told(sizes)[0] == (["1 tiny cluster"] if is_tiny else [])


def test_a_giant_holds_a_fifth_of_the_rows_and_five_times_the_mean():
    titles, text = told([600, *[20] * 50])  # mean 31.4, share 37.5 %
    assert titles == ["One cluster holds 38\N{NO-BREAK SPACE}% of the rows"]
    assert "The mean is 2\N{NO-BREAK SPACE}%" in text
    assert told([600, *[50] * 11])[0] == ["One cluster holds 52\N{NO-BREAK SPACE}% of the rows"], "6.3 times the mean"
    assert told([600, *[100] * 9])[0] == [], "40 % of the rows, but only four times the mean"
    assert told([230, *[10] * 100])[0] == [], "23 times the mean, but under a fifth of the rows"


def test_a_loose_cluster_lies_far_below_the_others():
    usual = np.linspace(0.58, 0.62, 20)
    assert told(EVEN, means=usual)[0] == []
    titles, _ = told(EVEN, means=np.r_[usual[:19], 0.5])
    assert "1 loose cluster" in titles
    assert np.flatnonzero(case(EVEN, means=np.r_[usual[:19], 0.5])[2].loose).tolist() == [19]


def test_rows_that_fit_nowhere_come_worst_first():
    titles, _ = told(EVEN, spoiled=[(7, 0.1), (300, 0.05)])
    placed, _, flags = case(EVEN, spoiled=[(7, 0.1), (300, 0.05)])
    low, high = np.quantile(placed.similarity, (0.25, 0.75))
    assert titles[-1] == "2 rows (0.25\N{NO-BREAK SPACE}%) fit no cluster well"
    assert flags.odd_below == pytest.approx(low - 1.5 * (high - low))
    assert odd_rows(placed, flags).tolist() == [300, 7]


def test_empty_clusters_other_rows_and_an_unfinished_fit_are_told():
    assert told([40, 40, 40, 0])[0] == ["1 empty cluster"]
    titles, text = told(EVEN, fitted=[50] * 20)
    assert titles == ["Not the rows of the fit"]
    assert "fitted on 1,000 rows" in text
    assert "assigns 800 rows" in text
    titles, text = told(EVEN, stop=StopReason.EPOCHS, changed=40)
    assert titles == ["The fit was not finished"]
    assert "5\N{NO-BREAK SPACE}% of the rows" in text
    assert told(EVEN, stop=StopReason.EPOCHS, changed=7)[0] == [], "under 1 % still moved"
    assert told(EVEN, stop=StopReason.FIXED_POINT, changed=40)[0] == []


def test_rows_left_out_are_told_with_their_reason():
    titles, text = told(EVEN, left_out=(2, 3, 17))
    assert titles == ["5 rows left out"]
    assert "2 without direction (all zero) and 3 with NaN or infinity; the first is row 17." in text


@pytest.mark.filterwarnings("ignore::cosmeans.errors.SkippedRowsWarning")
def test_skipped_rows_reach_the_page(tmp_path):
    rows = np.random.default_rng(0).standard_normal((60, 8))
    rows[3], rows[9, 2], rows[11, 2] = 0, np.nan, 1e39
    kmeans = KMeans(3, random_state=0, verbose=0, zero_rows="skip", nonfinite="skip").fit(rows)

    text = re.sub(r"\s+", " ", write_report(kmeans, rows, tmp_path / "page.html").read_text(encoding="utf-8"))

    assert "3 rows left out" in text
    assert "1 without direction (all zero) and 2 with NaN or infinity; the first is row 3." in text
