"""The commands that come after the labels: the same answers as from Python, in files and on the screen."""

import io
import json
from pathlib import Path

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import ipc, parquet

import children
from cosmeans import KMeans
from cosmeans.analysis.dedup import deduplicate
from cosmeans.analysis.evaluation import evaluate
from cosmeans.analysis.matching import match, moved
from cosmeans.analysis.queries import exemplars, outliers
from cosmeans.cli import tables


@pytest.fixture
def case(tmp_path, monkeypatch):
    """A working folder with rows.npy (200 x 8), texts, classes and two models; gives rows and models."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    middles = np.repeat(np.eye(8)[:4], 50, axis=0)
    rows = (middles * 3 + rng.standard_normal((200, 8))).astype(np.float32)
    rows[11] = rows[10]
    np.save("rows.npy", rows)
    texts = [f"text {i}" for i in range(200)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    (tmp_path / "classes.txt").write_text("\n".join("abcd"[i // 50] for i in range(200)) + "\n")
    models = [KMeans(k, random_state=0, verbose=0).fit(rows) for k in (4, 5)]
    for name, model in zip(("old", "new"), models, strict=True):
        model.save(name)
    return rows, *models


def test_choose_k_suggests_draws_and_goes_on(case, out, tmp_path):
    code, stdout, _ = out("choose-k rows.npy --ks 2,4,8 --seeds 2 --json --out chosen")

    choice = json.loads(stdout)
    assert (code, choice["n_clusters"]) == (0, 4)
    assert (tmp_path / "chosen" / "curve.png").exists()
    assert len(list((tmp_path / "chosen" / "runs").glob("k*.npz"))) == 6
    code, stdout, stderr = out("choose-k rows.npy --ks 2,4,8 --seeds 2 --out chosen")
    assert code == 0
    assert "silhouette" in stdout
    assert choice["reason"] in stderr


def test_an_interrupted_choice_says_how_to_go_on(case, out, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(KMeans, "fit", interrupted)

    assert out("choose-k rows.npy --out chosen") == (
        1,
        "",
        "Interrupted. Finished fits are kept in chosen; the same command continues from them.\n",
    )


def test_tables_on_a_narrow_screen_keep_their_numbers_and_cut_their_texts(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    columns = {"row": np.arange(100_000, 100_030), "cosine": np.full(30, 0.25)}

    texts = {"text": np.array(["words " * 40] * 100_030, dtype=object)}
    tables.show(tables.with_others(columns, texts, None), 20, "Worst")

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Worst: the first 20 of 30"
    assert max(map(len, lines)) <= 60
    assert [line.split()[1] for line in lines if "words" in line] == [f"{row:,}" for row in range(100_000, 100_020)]
    assert all("0.2500" in line and "…" in line for line in lines if "words" in line)


def test_a_table_without_rows_has_the_types_of_its_columns(case, out):
    assert out("outliers old rows.npy --threshold -1 --texts texts.txt")[0] == 0

    schema = parquet.read_schema("outliers.parquet")

    assert [str(schema.field(name).type) for name in ("row", "similarity", "text")] == ["int64", "float", "string"]


def test_evaluate_tells_what_python_tells(case, out):
    rows, model, _ = case
    code, stdout, _ = out("evaluate old rows.npy --classes classes.txt --json")

    assert code == 0
    assert json.loads(stdout) == evaluate(model, rows, np.arange(200) // 50).to_json()
    code, stdout, _ = out("evaluate old rows.npy")
    assert "davies bouldin" in stdout
    assert "purity" not in stdout


def test_outliers_and_exemplars_are_written_with_their_texts(case, out):
    rows, model, _ = case
    assert out("outliers old rows.npy --quantile 0.1 --texts texts.txt")[0] == 0
    code, stdout, _ = out("exemplars old rows.npy -m 3 --texts texts.txt --out best.csv")

    worst, best = pandas.read_parquet("outliers.parquet"), pandas.read_csv("best.csv")
    assert worst["row"].tolist() == outliers(model, rows, quantile=0.1).rows.tolist()
    assert worst["text"].tolist() == [f"text {row}" for row in worst["row"]]
    assert best["row"].tolist() == exemplars(model, rows, 3).rows.ravel().tolist()
    assert best["cluster"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert code == 0
    assert "text " in stdout


def test_top_lists_the_best_clusters_of_every_row(case, out):
    rows, model, _ = case

    code, stdout, _ = out("top old rows.npy -m 2 --texts texts.txt --out top.csv")

    cosines = rows.astype(float) / np.linalg.norm(rows.astype(float), axis=1)[:, None] @ model.cluster_centers_.T
    listed = pandas.read_csv("top.csv")
    assert code == 0
    assert listed["row"].tolist() == np.repeat(np.arange(200), 2).tolist()
    assert listed["cluster"].tolist() == np.argsort(-cosines, axis=1)[:, :2].ravel().tolist()
    assert listed["similarity"].tolist() == pytest.approx(np.sort(cosines)[:, :-3:-1].ravel(), abs=1e-6)
    assert listed["text"][3] == "text 1"
    assert "text 1" in stdout


def test_fit_numbers_clusters_by_size_and_writes_a_page(case, out):
    rows = case[0][:170]
    np.save("rows.npy", rows)

    code, stdout, _ = out("fit rows.npy -k 4 --order size --report --json --out ordered")
    assert out("fit rows.npy -k 4 --out plain --quiet")[0] == 0

    labels, plain = np.load("ordered/labels.npy"), np.load("plain/labels.npy")
    size = np.bincount(plain)
    assert code == 0
    assert size.tolist() != sorted(size, reverse=True), "nothing to order"
    assert np.bincount(labels).tolist() == sorted(size, reverse=True)
    assert labels.tolist() == np.argsort(np.argsort(-size, kind="stable"))[plain].tolist()
    assert KMeans.load("ordered/model").predict(rows).tolist() == labels.tolist()
    page = Path(json.loads(stdout)["files"]["report"]).read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")


def test_dedup_writes_the_keep_list_and_why(case, out):
    rows, model, _ = case

    code, stdout, _ = out("dedup old rows.npy --threshold 0.99 --texts texts.txt --removed gone.csv")

    found = deduplicate(model, rows, 0.99)
    gone = pandas.read_csv("gone.csv")
    assert code == 0
    assert np.load("keep.npy").tolist() == found.kept.tolist()
    assert gone["row"].tolist() == found.removed.tolist()
    assert gone["cluster"].tolist() == model.predict(rows)[found.removed].tolist()
    assert gone["similarity"].tolist() == pytest.approx(found.cosines)
    assert gone["text"].tolist() == [f"text {row}" for row in found.removed]
    assert gone["text of original"].tolist() == [f"text {row}" for row in found.original]
    assert 11 in found.removed
    assert "text 11" in stdout


def test_match_says_what_became_of_each_cluster_and_draws_what_moved(case, out, tmp_path):
    rows, old, new = case

    code, stdout, _ = out("match old new --embeddings rows.npy --plot moves.png --out match.json --json")

    record = json.loads(stdout)
    assert code == 0
    assert record["new_of_old"] == match(old, new).new_of_old.tolist()
    assert record["moves"] == json.loads(json.dumps(moved(old, new, rows).to_json()))
    assert json.loads((tmp_path / "match.json").read_text()) == record
    assert (tmp_path / "moves.png").exists()
    told = out("match old new --embeddings rows.npy")[1]
    assert "4 clusters matched, 0 disappeared, 1 new; " in told
    assert f"{record['moves']['stayed']} of 200 rows stayed in their cluster" in " ".join(told.split())


@pytest.mark.linux
def test_predict_answers_a_stream(case):
    rows, model, _ = case
    lines = b"\n".join(json.dumps({"id": i, "v": row.tolist()}).encode() for i, row in enumerate(rows[:20]))

    code, stdout, stderr = children.ran("predict old - --field v", lines)

    answers = [json.loads(line) for line in stdout.splitlines()]
    assert (code, stderr) == (0, "")
    assert [answer["cluster"] for answer in answers] == model.labels_[:20].tolist()
    assert [answer["id"] for answer in answers] == list(range(20))


@pytest.mark.linux
def test_predict_answers_an_arrow_stream_and_names_a_wrong_line(case):
    rows, model, _ = case
    table, sink = pyarrow.table({"embedding": rows.tolist()}), io.BytesIO()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)

    done = children.ran("predict old - --arrow", sink.getvalue())
    wrong = children.ran("predict old -", b"[1, 2]\n")

    assert done[::2] == (0, "")
    assert ipc.open_stream(done[1]).read_all()["cluster"].to_pylist() == model.labels_.tolist()
    told = "Error: Line 1: the embedding has shape (2,). Send 8 numbers, as many as the model has features.\n"
    assert wrong == (2, b"", told)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("choose-k rows.npy --ks 2,x", "--ks 2,x must be integers"),
        ("outliers old rows.npy --out worst.txt", "tables are written as .parquet, .csv, .npy"),
        ("outliers old rows.npy --out texts.npy --quantile 2", "must be between 0 and 1"),
        ("exemplars old rows.npy --out rows.npy", "rows.npy already exists"),
        ("match old new --plot moves.png", "pass --embeddings"),
        ("dedup nothing rows.npy", "No model at nothing"),
        ("dedup old rows.npy --removed gone.npy", "--removed gone.npy: tables are written as .parquet, .csv."),
        ("top old rows.npy --out top.npy", "--out top.npy: tables are written as .parquet, .csv."),
        ("evaluate old rows.npy --classes nothing.txt", "No such file: nothing.txt"),
        ("evaluate old rows.npy --column class", "rows.npy has no columns besides its rows"),
        ("top old rows.npy -m 5", "the model has 4 clusters. Lower --clusters."),
        ("fit rows.npy -k 4 --order age --out new", "--order must be one of size"),
    ],
)
def test_what_can_not_be_is_told_with_exit_code_2(case, out, line, message):
    code, stdout, stderr = out(line)

    assert (code, stdout) == (2, "")
    assert message in stderr
