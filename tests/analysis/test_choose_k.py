"""Choosing K: groups that are there are found, runs are kept, and the suggestion says why."""

import json
import random
import re
import shutil

import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.metrics import adjusted_rand_score

import generators
from cosmeans import KMeans
from cosmeans.analysis.choose_k import Point, choose_k, suggest
from cosmeans.analysis.evaluation import evaluate
from cosmeans.errors import FileError, InputError, OptionError, TooFewRowsError


def groups(k, size=40, noise=0.15, d=16):
    rng = np.random.default_rng(1)
    middles = np.repeat(np.eye(d, dtype=np.float32)[:k], size, axis=0)
    return rng.permutation(middles + noise * rng.standard_normal(middles.shape).astype(np.float32))


def test_groups_that_are_there_are_found():
    choice = choose_k(groups(6), range(2, 13), n_seeds=2, verbose=0)

    assert choice.n_clusters == 6
    assert choice.reason.startswith("K = 6: the highest silhouette, 0.")
    assert [point.n_clusters for point in choice.points] == list(range(2, 13))


def test_every_figure_is_that_of_a_fit_with_that_seed():
    rows = generators.text_rows(200)

    choice = choose_k(rows, [4, 7], n_seeds=2, verbose=0, random_state=5)

    models = {
        (k, s): KMeans(k, epochs=50, init="k-means++", random_state=s, verbose=0).fit(rows)
        for k in (4, 7)
        for s in (5, 6)
    }
    measured = {job: evaluate(model, rows) for job, model in models.items()}
    for run in choice.runs:
        job = run.n_clusters, run.seed
        assert (run.similarity, run.silhouette) == (measured[job].similarity, measured[job].silhouette)
    for point in choice.points:
        pair = [models[point.n_clusters, seed].labels_ for seed in (5, 6)]
        assert point.stability == pytest.approx(adjusted_rand_score(*pair))
        both = [measured[point.n_clusters, seed] for seed in (5, 6)]
        best = max(both, key=lambda evaluation: evaluation.similarity)
        assert (point.similarity, point.silhouette) == (best.similarity, best.silhouette)
        assert point.spread == pytest.approx(np.ptp([evaluation.silhouette for evaluation in both]))


def test_a_folder_keeps_finished_runs_and_only_new_ones_are_done(tmp_path, monkeypatch, time_flies, capsys):
    rows = groups(4)
    done = []
    fit = KMeans.fit

    def counted(self, X, y=None, sample_weight=None):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(self.n_clusters)
        return fit(self, X)

    monkeypatch.setattr(KMeans, "fit", counted)
    with pytest.raises(KeyboardInterrupt):
        choose_k(rows, [3, 4, 5], n_seeds=2, folder=tmp_path, verbose=0)
    done.clear()
    capsys.readouterr()
    resumed = choose_k(rows, [3, 4, 5], n_seeds=2, folder=tmp_path, verbose=1)

    assert done == [3, 4, 5]
    told = re.findall(r"fit (\d+) of (\d+): (\d+) clusters", capsys.readouterr().err)
    assert list(dict.fromkeys(told)) == [("1", "3", "3"), ("2", "3", "4"), ("3", "3", "5")], "those that are left"
    done.clear()
    again = choose_k(rows, [3, 4, 5], n_seeds=2, folder=tmp_path, verbose=0)
    assert done == []
    assert json.dumps(again.to_json()) == json.dumps(resumed.to_json())
    whole = choose_k(rows, [4], n_seeds=2, verbose=0)
    assert [point for point in again.points if point.n_clusters == 4] == whole.points


def test_a_folder_of_other_rows_or_damaged_runs_is_refused(tmp_path):
    rows = groups(3)
    choose_k(rows, [3], n_seeds=1, folder=tmp_path, verbose=0)

    with pytest.raises(FileError, match="holds runs on other rows or with other options"):
        choose_k(rows[1:], [3], n_seeds=1, folder=tmp_path, verbose=0)
    with pytest.raises(FileError, match="holds runs on other rows or with other options"):
        choose_k(rows, [3], n_seeds=1, epochs=7, folder=tmp_path, verbose=0)
    (tmp_path / "k3-seed0.npz").write_bytes(b"PK")
    with pytest.raises(FileError, match="is damaged"):
        choose_k(rows, [3], n_seeds=1, folder=tmp_path, verbose=0)


def test_a_sample_is_the_same_every_time_and_without_zero_rows():
    rows = generators.unit_rows(500, 5)
    rows[:100] = 0.0

    first, second = (choose_k(rows, [2, 3], sample_size=200, n_seeds=1, verbose=0) for _ in range(2))

    assert first.points == second.points
    assert 100 < first.n_rows < 200


def point(k, silhouette, spread=0.0, stability=0.9):
    return Point(k, 0.5, silhouette, spread, stability)


@pytest.mark.parametrize(
    ("points", "expected", "words"),
    [
        ([point(2, 0.3, stability=0.99), point(4, 0.1), point(8, 0.305, stability=0.5)], 2, "as high at both ends"),
        ([point(2, 0.1), point(4, 0.3), point(8, 0.2)], 4, "the highest silhouette, 0.300"),
        (
            [point(2, 0.1), point(4, 0.295, stability=0.95), point(8, 0.3), point(9, 0.1)],
            4,
            "within 0.01 of the highest",
        ),
        ([point(2, 0.1), point(4, 0.28, stability=0.95), point(8, 0.3), point(9, 0.1)], 8, "K = 8"),
        ([point(2, 0.1), point(4, 0.3)], 4, "try larger K"),
        ([point(2, 0.4), point(4, 0.3)], 2, "few broad groups, or none"),
        ([point(2, 0.1), point(4, 0.3, stability=0.3), point(8, 0.2)], 4, "no sharp groups"),
        ([point(2, 0.1, stability=None), point(4, 0.3, stability=None), point(8, 0.3, stability=None)], 4, "K = 4"),
    ],
)
def test_the_suggestion_weighs_silhouette_and_stability_and_says_so(points, expected, words):
    k, reason = suggest(points)

    assert k == expected
    assert words in reason


def test_the_curve_is_drawn(tmp_path):
    choose_k(groups(3), [2, 3, 4], n_seeds=2, verbose=0).plot(tmp_path / "curve.png")

    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_one_seed_has_no_stability_to_draw():
    choices = [choose_k(groups(3), [2, 3], n_seeds=n_seeds, verbose=0) for n_seeds in (1, 2)]

    titles = [[axes.get_title("left").split()[0] for axes in choice.plot().axes] for choice in choices]

    assert titles == [["Silhouette", "Mean"], ["Silhouette", "Stability:", "Mean"]]
    pyplot.close("all")


def test_ranges_and_rows_that_can_not_be_are_told():
    rows = groups(3)

    with pytest.raises(OptionError, match="each at least 2; got"):
        choose_k(rows, [1, 2], verbose=0)
    with pytest.raises(TooFewRowsError, match="K = 500 needs at least as many rows; the sample has 120"):
        choose_k(rows, [500], verbose=0)
    with pytest.raises(OptionError, match="n_seeds must be an integer of at least 1, got 0"):
        choose_k(rows, [2], n_seeds=0, verbose=0)
    rows[50, 3] = np.nan
    with pytest.raises(InputError, match="Row 50 contains NaN or infinity"):
        choose_k(rows, [2], verbose=0)


# ---------------------------------------------------------------- runs that were read


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with one finished run of K = 3, and the choice."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, choose_k(groups(3), [3], n_seeds=1, folder=folder, verbose=0)


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "runs")
    return tmp_path / "runs"


def again(folder):
    return choose_k(groups(3), [3], n_seeds=1, folder=folder, verbose=0)


def rewrite(folder, labels=None, **changes):
    path = folder / "k3-seed0.npz"
    with np.load(path) as archive:
        record = json.loads(str(archive["run"])) | changes
        labels = archive["labels"] if labels is None else labels
    record = {name: value for name, value in record.items() if value != "DELETED"}
    np.savez_compressed(path, run=np.array(json.dumps(record)), labels=labels)


DAMAGE = [
    ({"silhouette": 99}, "run.silhouette must be a number from -1 to 1; it is 99"),
    ({"silhouette": float("nan")}, "run.silhouette"),
    ({"similarity": "high"}, "run.similarity"),
    ({"similarity": None}, "run.similarity"),
    ({"epochs": 0}, "run.epochs must be an integer from 1"),
    ({"epochs": 2.5}, "run.epochs"),
    ({"seconds": -1}, "run.seconds"),
    ({"n_clusters": 4}, "run.n_clusters must be 3; it is 4"),
    ({"seed": 10**30}, "run.seed must be an integer"),
    ({"seed": 1}, "run.seed must be 0; it is 1"),
    ({"seconds": "DELETED"}, "run.seconds is missing"),
    ({"labels": np.zeros(7, np.int32)}, "labels must be 120 integers from 0 to 2"),
    ({"labels": np.full(120, 3, np.int32)}, "labels must be 120 integers from 0 to 2"),
    ({"labels": np.full(120, -1, np.int32)}, "labels must be"),
    ({"labels": np.zeros(120, np.float32)}, "labels must be"),
    ({"labels": np.array(["a"] * 120)}, "labels must be"),
    ({"labels": np.zeros((120, 1), np.int32)}, "labels|expected 1 dimension"),
    ({"labels": np.array([None] * 120)}, "pickled Python objects"),
]


@pytest.mark.parametrize(("changes", "reason"), DAMAGE)
def test_values_of_a_run_are_checked_and_named(run, changes, reason):
    rewrite(run, **changes)

    with pytest.raises(FileError, match=rf"k3-seed0\.npz.*({reason})"):
        again(run)


@pytest.mark.parametrize("contents", [b"", b"PK", b"PK\x03\x04" * 9, b"\x93NUMPY" + bytes(50), b"{}"])
@pytest.mark.parametrize("name", ["k3-seed0.npz", "setup.json"])
def test_other_files_in_place_of_runs_are_told(run, name, contents):
    (run / name).write_bytes(contents)

    with pytest.raises(FileError, match=name if contents != b"{}" or name != "setup.json" else "other rows"):
        again(run)


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[1]", "\udcff"])
def test_a_note_that_is_none_is_told(run, text):
    (run / "setup.json").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(FileError, match=r"setup\.json|other rows"):
        again(run)


def test_unknown_fields_of_a_run_are_ignored(run, finished):
    rewrite(run, future={"a": [1]}, device="tpu")

    assert again(run).runs == finished[1].runs


def test_damaged_bytes_of_a_run_are_told_or_do_no_harm(run, finished):
    draw, path = random.Random(0), run / "k3-seed0.npz"
    whole = path.read_bytes()
    for _ in range(60):
        at = draw.randrange(len(whole))
        path.write_bytes(draw.choice([whole[:at], whole[:at] + bytes([draw.randrange(256)]) + whole[at + 1 :]]))
        try:
            found = again(run)
        except FileError as error:
            assert "k3-seed0.npz" in str(error)  # noqa: PT017  # or there was no harm
        else:
            assert found.runs == finished[1].runs
