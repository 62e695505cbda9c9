"""The command line from outside: files, streams, exit codes, Ctrl-C."""

import json
import os
import re
import shutil
import signal
import sys

import numpy as np
import pandas
import pytest
import torch
import typer

import children
from cosmeans import KMeans, __main__
from cosmeans.cli import app
from cosmeans.cli.demo import peak_bytes, random_unit_rows
from cosmeans.demo_data import sample
from refusing import refuse_flush

OUTPUTS = ["convergence.png", "history.json", "labels.npy", "labels.parquet", "model"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with rows.npy: 300 x 8 around four directions."""
    rng = np.random.default_rng(0)
    rows = np.repeat(np.eye(8)[:4], 75, axis=0) * 3 + rng.standard_normal((300, 8))
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_fit_writes_what_the_estimator_finds(folder, out):
    code, stdout, stderr = out("fit rows.npy -k 4 --out result")

    kmeans = KMeans(4, random_state=0, verbose=0).fit(np.load("rows.npy"))
    sizes = [line.split()[1] for line in stdout.splitlines()]
    assert (code, sizes) == (0, ["rows", *map(str, sorted(np.bincount(kmeans.labels_), reverse=True))])
    assert "300 rows x 8 in 4 clusters" in stderr
    assert sorted(os.listdir("result")) == OUTPUTS
    assert np.array_equal(np.load("result/labels.npy"), kmeans.labels_)
    table = pandas.read_parquet("result/labels.parquet")
    assert table["row"].tolist() == list(range(300))
    assert table.columns.tolist() == ["row", "cluster", "similarity", "label"]
    assert np.array_equal(table["cluster"], kmeans.labels_)
    assert np.array_equal(table["label"], kmeans.labels_)
    assert np.array_equal(table["similarity"], kmeans.similarity_.astype(np.float32))
    history = json.loads((folder / "result/history.json").read_text())
    assert [epoch["similarity"] for epoch in history["iterations"]] == kmeans.similarities
    assert history["seed"] == kmeans.random_state_
    assert KMeans.load("result/model").cluster_centers_.tobytes() == kmeans.cluster_centers_.tobytes()


@pytest.mark.linux
def test_json_is_one_object_on_stdout(folder):
    code, stdout, stderr = children.ran("fit rows.npy -k 4 --json --out result")

    record = json.loads(stdout)
    assert code == 0
    assert stdout.count(b"\n") == 1
    assert "Traceback" not in stderr
    assert (record["rows"], record["features"], record["clusters"]) == (300, 8, 4)
    assert record["files"]["labels"] == "result/labels.npy"
    own = pandas.read_parquet(folder / "result/labels.parquet")["similarity"].mean()
    assert record["similarity"] == pytest.approx(own, abs=1e-6)


def test_quiet_says_nothing(folder, out):
    assert out("fit rows.npy -k 4 --quiet") == (0, "", "")
    assert sorted(os.listdir("cosmeans-rows")) == OUTPUTS
    assert out("predict cosmeans-rows rows.npy --quiet") == (0, "", "")


def test_every_flag_reaches_the_fit(folder, out):
    flags = "--epochs 3 --init k-means++ --n-init 2 --tol 0.5 --random-state 7 --batch-size 50 --zero-rows skip"
    more = "--nonfinite skip --empty-clusters keep --backend reference --out result"

    assert out(f"fit rows.npy -k 5 {flags} {more}")[0] == 0

    kmeans = KMeans.load("result/model")
    expected = {"n_clusters": 5, "epochs": 3, "init": "k-means++", "n_init": 2, "tol": 0.5, "batch_size": 50}
    expected |= {"zero_rows": "skip", "nonfinite": "skip", "empty_clusters": "keep", "backend": "reference"}
    assert {name: kmeans.get_params()[name] for name in expected} == expected
    again = KMeans(5, 50, 3, init="k-means++", n_init=2, tol=0.5, random_state=7, verbose=0).fit(np.load("rows.npy"))
    assert kmeans.random_state_ == again.random_state_
    assert np.array_equal(np.load("result/labels.npy"), again.labels_)


def test_weights_of_zero_and_one_equal_leaving_rows_out(folder, out):
    rows, weights = np.load("rows.npy"), np.tile([1.0, 1.0, 0.0], 100)
    np.save("weights.npy", weights)

    assert out("fit rows.npy -k 4 --weights weights.npy --out result")[0] == 0

    kept = KMeans(4, random_state=0, verbose=0).fit(rows[weights > 0])
    assert np.array_equal(np.load("result/labels.npy")[weights > 0], kept.labels_)


def test_two_epochs_and_going_on_equal_five(folder, out):
    assert out("fit rows.npy -k 6 --epochs 5 --out whole")[0] == 0
    assert out("fit rows.npy -k 6 --epochs 2 --out part")[0] == 0
    assert out("fit rows.npy --from part --epochs 3 --out rest")[0] == 0

    whole, rest = KMeans.load("whole/model"), KMeans.load("rest/model")
    assert rest.cluster_centers_.tobytes() == whole.cluster_centers_.tobytes()
    assert rest.similarities == whole.similarities
    code, _, stderr = out("fit rows.npy --from part -k 6 --out no")
    assert (code, "so --clusters has no effect" in stderr) == (2, True)


@pytest.mark.parametrize("where", ["--device", "--backend"])
def test_a_limit_of_a_gpu_has_no_effect_on_a_cpu(folder, out, where):
    code, _, stderr = out(f"fit rows.npy -k 4 {where} cpu --device-memory-limit 8GB --out no")
    assert (code, "Error: --device-memory-limit has no effect on a CPU. Remove it." in stderr) == (2, True)
    assert not os.path.exists("no")
    code, _, stderr = out("fit rows.npy -k 4 --device-memory-limit many --out no")
    assert (code, "--device-memory-limit must be a number of bytes" in stderr) == (2, True)


def test_predict_repeats_the_labels_of_the_fit(folder, out):
    out("fit rows.npy -k 4 --out result")

    code, stdout, _ = out("predict result rows.npy --json")
    digest = KMeans.load("result/model").digest()
    assert (code, json.loads(stdout)) == (0, {"rows": 300, "left_out": 0, "labels": "labels.npy", "digest": digest})
    assert np.array_equal(np.load("labels.npy"), np.load("result/labels.npy"))
    assert out("predict result/model rows.npy --out new.parquet")[0] == 0
    assert pandas.read_parquet("new.parquet")["cluster"].tolist() == np.load("labels.npy").tolist()


def test_predict_takes_a_limit_of_memory(folder, out):
    assert out("fit rows.npy -k 6 --out result")[0] == 0
    for limit in ("0", "8GB"):
        assert out(f"predict result rows.npy --memory-limit {limit} --force")[0] == 0
        assert np.array_equal(np.load("labels.npy"), np.load("result/labels.npy"))
    code, _, stderr = out("predict result rows.npy --memory-limit 8apples --force")
    assert code == 2
    assert "must be a number of bytes" in stderr


def test_texts_stand_for_their_clusters(folder, out):
    (folder / "texts.txt").write_text("".join(f"text {row} [b]\n" for row in range(300)))

    code, stdout, _ = out("fit rows.npy -k 4 --texts texts.txt --out result")

    table = pandas.read_parquet("result/labels.parquet")
    nearest = table.loc[table.groupby("cluster")["similarity"].idxmax()]
    written = (folder / "result/clusters.md").read_text()
    assert code == 0
    for row, label in zip(nearest["row"], nearest["cluster"], strict=True):
        assert f"text {row} [b]" in stdout
        section = written.split(f"## Cluster {label}: ")[1]
        assert section.startswith(f"{(table['cluster'] == label).sum()} rows")
        assert section.split("\n- ")[1] == f"text {row} [b]"


def test_info_tells_what_a_model_holds(folder, out):
    out("fit rows.npy -k 4 --out result")

    model = json.loads(out("info result --json")[1])

    assert (model["clusters"], model["features"], model["rows"]) == (4, 8, 300)
    sizes = np.bincount(np.load("result/labels.npy"))
    assert (model["smallest_cluster"], model["largest_cluster"]) == (sizes.min(), sizes.max())
    assert "largest cluster" in out("info result")[1]


def test_plot_draws_a_saved_model(folder, out):
    out("fit rows.npy -k 4 --out result")

    assert out("plot result")[0] == 0
    assert (folder / "convergence.png").read_bytes().startswith(b"\x89PNG")
    code, _, stderr = out("plot result")
    assert (code, "already exists" in stderr) == (2, True)
    assert out("plot result --out plot.gif")[0] == 2


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("fit rows.npy", "number of clusters is missing"),
        ("fit rows.npy -k 0", "--clusters must be an integer of at least 1; got 0"),
        ("fit rows.npy -k 301", "--clusters 301 needs at least 301 rows"),
        ("fit rows.npy -k 4 --init best", "--init must be one of random, k-means++, nested; got 'best'."),
        ("fit rows.npy -k 4 --init kmeans++", "Did you mean 'k-means++'?"),
        ("fit rows.npy -k 4 --zero-rows no", "--zero-rows must be one of 'warn', 'skip', 'error'"),
        ("fit rows.npy -k 4 --strategy fast", "Did you mean 'auto'?"),
        ("fit rows.npy -k 4 --device gpu", '--device must be "auto", "cpu", "cuda" or "cuda:1"; got \'gpu\'. Did'),
        ("fit rows.npy -k 4 --device gpu", "Did you mean 'cuda'?"),
        ("fit rows.npy -k 4 --device cpus", "Did you mean 'cpu'?"),
        ("fit rows.npy -k 4 --memory-limit many", "--memory-limit must be a number of bytes"),
        ("fit rows.npy -k 4 --order age", "--order must be one of size; got 'age'"),
        ("fit rows.npy -k 4 --key a", "--key a: rows.npy is a .npy file, which holds one array"),
        ("fit rows.npy -k 4 --backend reference --strategy pca", "--strategy has no effect with --backend reference"),
        ("fit rows.npy -k 4 --cache off --keep-cache", "--keep-cache has no effect with --cache off"),
        ("info nothing", "No such file: nothing."),
        ("match a b --dtype f4", "--dtype has no effect without --embeddings"),
        ("match a b --force", "--force has no effect without --out or --plot"),
        ("report a rows.npy --sample 0 --projection umap", "--projection has no effect with --sample 0"),
        ("report a rows.npy --projection tsna", "Did you mean 'tsne'?"),
        ("evaluate a rows.npy --id-column id", "No such option: --id-column"),
        ("fit rows.npy -k 4 --epochs many", "Error: --epochs: an integer is expected. See: cosmeans fit --help"),
        ("fit rows.npy -k many", "Error: --clusters: an integer is expected. See: cosmeans fit --help"),
        ("fit rows.npy -k 4 --tol small", "Error: --tol: a number is expected. See: cosmeans fit --help"),
        ("demo --tutorial --rows 0", "Error: --rows: "),
        ("dedup a rows.npy --keep nearest", "Did you mean 'closest'?"),
        ("fit rows.npy -k 4 --colour red", "--colour"),
        ("fit none.npy -k 4", "No such file: none.npy"),
        ("fit rows.xls -k 4", "No such file: rows.xls"),
        ("fit some.xls -k 4", "some.xls has an unsupported file type (.xls). Supported: .npy"),
        ("fit cut.npy -k 4", "Error: cut.npy is truncated or damaged (it declares"),
        ("fit nan.npy -k 4", "Row 7 contains NaN or infinity"),
        ("fit rows.npy -k 4 --texts short.txt", "short.txt has 2 lines, the embeddings have 300 rows"),
        ("fit rows.npy -k 4 --texts none.txt", "No such file: none.txt"),
        ("fit rows.npy -k 4 --weights rows.npy", "expected 1 dimension"),
        ("fit . -k 4", ". holds files of 2 kinds (5 .npy, 1 .pt). Name those with the rows, as **/*.npy"),
        ("info text.npy", "text.npy must be real numbers, got text (dtype <U1)"),
        ("info complex.npy", "Complex data not supported: complex.npy must be real"),
        ("info bool.pt", "bool.pt must be real numbers, got torch.bool"),
        ("predict rows.npy rows.npy", "No model at rows.npy"),
        ("predict nowhere rows.npy", "No model at nowhere"),
        ("predict nowhere rows.npy --out labels.csv", "labels are written as .npy or .parquet"),
        ("fly", "fly"),
    ],
)
def test_bad_input_gets_one_clear_error_and_exit_code_2(folder, out, line, word):
    rows = np.load("rows.npy")
    (folder / "cut.npy").write_bytes((folder / "rows.npy").read_bytes()[:5000])
    rows[7, 1] = np.nan
    np.save("nan.npy", rows)
    (folder / "short.txt").write_text("one\ntwo\n")
    (folder / "some.xls").write_text("")
    np.save("text.npy", np.array([["a", "b"]]))
    np.save("complex.npy", rows + 0j)
    torch.save(torch.ones(3, 2, dtype=torch.bool), "bool.pt")
    before = sorted(os.listdir())

    code, stdout, stderr = out(line)

    assert code == 2
    assert stdout == ""
    assert word in stderr
    assert "Traceback" not in stderr
    assert sorted(os.listdir()) == before


def test_a_gpu_that_is_not_there_is_named_as_it_was_typed(folder, out):
    code, _, stderr = out("fit rows.npy -k 4 --device cuda:99")

    assert (code, "Error: --device cuda:99 needs that GPU" in stderr) == (1, True)


def test_predict_refuses_rows_of_another_width(folder, out):
    out("fit rows.npy -k 4 --out result")
    np.save("wide.npy", np.ones((3, 9), np.float32))

    code, _, stderr = out("predict result wide.npy")

    assert (code, "9 features" in stderr) == (2, True)


def test_nothing_is_overwritten_without_force(folder, out, monkeypatch):
    out("fit rows.npy -k 4 --out result")
    (folder / "result" / "mine.txt").write_text("mine")
    labels = (folder / "result/labels.npy").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(KMeans, "fit", lambda *_, **__: pytest.fail("the folder is checked before the work"))
        code, _, stderr = out("fit rows.npy -k 3 --out result")
    assert (code, "result already exists" in stderr) == (2, True)
    assert (folder / "result/labels.npy").read_bytes() == labels

    assert out("fit rows.npy -k 3 --out result --force")[0] == 0
    assert np.load("result/labels.npy").max() == 2
    assert KMeans.load("result/model").n_clusters == 3
    assert (folder / "result" / "mine.txt").read_text() == "mine"


@pytest.mark.linux
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_a_full_standard_output_is_told(folder, out):
    out("fit rows.npy -k 4 --out result")
    code, _, stderr = children.ran("info result --json", stdout="/dev/full")

    assert code == 1
    assert stderr.startswith("Error: No space left to write the standard output. Free some space")


@pytest.mark.parametrize("survives", [0, 1, 2])
def test_no_space_left_is_told_and_keeps_what_was_there(folder, out, monkeypatch, survives):
    out("fit rows.npy -k 4 --out result")
    before = {path.name: path.read_bytes() for path in (folder / "result").iterdir() if path.is_file()}

    with monkeypatch.context() as patch:
        refuse_flush(patch, after=5 * survives)
        code, _, stderr = out("fit rows.npy -k 3 --out result --force")

    assert code == 1
    assert "No space left to write" in stderr
    assert not [name for name in os.listdir("result") if name.startswith(".")]
    assert KMeans.load(folder / "result/model").n_clusters in (3, 4)
    if not survives:
        after = {path.name: path.read_bytes() for path in (folder / "result").iterdir() if path.is_file()}
        assert after == before


def test_a_failed_fit_leaves_no_folder(folder, out):
    np.save("zero.npy", np.zeros((10, 3), np.float32))

    assert out("fit zero.npy -k 4 --zero-rows error --out result")[0] == 2
    assert not (folder / "result").exists()


@pytest.mark.filterwarnings("default")
def test_zero_rows_are_a_plain_warning(folder, out):
    rows = np.load("rows.npy")
    rows[5] = 0
    np.save("some.npy", rows)

    code, stdout, stderr = out("fit some.npy -k 4 --json")

    assert code == 0
    assert "Warning: 1 of 300 rows is zero (the first is row 5) and has no direction. It gets label -1." in stderr
    assert ".py" not in stderr
    assert json.loads(stdout)["left_out"] == 1


def wait_for(text, stream):
    """Read stderr up to a line that holds the text."""
    for line in stream:
        if text in line:
            return
    pytest.fail(f"{text!r} never came")


def start_long_fit(folder, options):
    """A fit in one of its first epochs. Clusters of a circle move slowly: it would take more than a thousand."""
    angles = 2 * np.pi * np.random.default_rng(0).random(200_000)
    rows = np.zeros((len(angles), 32), np.float32)
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    np.save(folder / "long.npy", rows)
    running = children.Child(f"fit long.npy -k 100 --epochs 100000 --out result --json {options}")
    wait_for(" of at most 100000", running.stderr)
    return running


@pytest.mark.linux
def test_the_first_interrupt_saves_what_was_reached(folder):
    running = start_long_fit(folder, "--batch-size 500")
    running.interrupt()
    code, stdout, stderr = running.ended()

    record = json.loads(stdout)
    assert code == 1
    assert "Stopping; what was reached will be saved" in stderr
    assert record["stop_reason"] == "interrupted"
    assert sorted(os.listdir(folder / "result")) == OUTPUTS
    kmeans = KMeans.load(folder / "result/model").set_params(verbose=0)
    assert len(kmeans.similarities) == record["epochs"]
    labels = np.load(folder / "result/labels.npy")
    assert np.array_equal(kmeans.predict(np.load(folder / "long.npy")), labels)


@pytest.mark.linux
def test_the_second_interrupt_leaves_at_once(folder):
    # the reference backend is slow: finishing the labels takes it far longer than the second signal
    running = start_long_fit(folder, "--batch-size 40000 --backend reference")
    running.interrupt()
    wait_for("Ctrl-C again leaves at once", running.stderr)
    running.interrupt()

    assert running.ended()[0] == -signal.SIGINT
    assert not [path for path in (folder / "result").rglob("*") if path.is_file()]


def test_an_interrupt_before_the_first_epoch_has_nothing_to_save(folder, out, monkeypatch):
    def fit(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(KMeans, "fit", fit)
    code, stdout, stderr = out("fit rows.npy -k 4 --out result")

    assert (code, stdout) == (1, "")
    assert "there is nothing to save" in stderr
    assert not (folder / "result").exists()


def test_the_demo_shows_real_texts(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = out("demo --epochs 4")

    rows, texts = sample()
    labels = np.load(tmp_path / "demo-output/labels.npy")
    best = pandas.read_parquet(tmp_path / "demo-output/labels.parquet").sort_values("similarity").iloc[-1]
    written = (tmp_path / "demo-output/clusters.md").read_text()
    assert code == 0
    assert rows.shape == (len(texts), 384)
    assert len(labels) == len(texts) == 6000
    assert set(labels) == set(range(60))
    assert f"- {texts[int(best['row'])]}\n" in written
    table = stdout.splitlines()
    assert table[0].split() == ["cluster", "rows", "similarity", "words"]
    largest = int(np.bincount(labels).argmax())
    assert table[1].split()[:2] == [str(largest), str((labels == largest).sum())]
    assert re.fullmatch(r"0\.\d{4}", table[1].split()[2])
    shown = [int(line.split()[1]) for line in table[1:-1]]
    assert shown == sorted(shown, reverse=True)
    assert table[-1].startswith(f"and {60 - len(shown)} smaller clusters with {6000 - sum(shown):,} rows: all are in ")
    assert "demo-output/convergence.png" in stderr
    assert "after 4 epochs, seed 0. " in stderr


def test_the_demo_writes_its_texts_and_embeddings_as_files(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    assert out("demo --data data")[:2] == (0, "")

    rows, texts = sample()
    assert np.array_equal(np.load("data/embeddings.npy"), rows)
    assert (tmp_path / "data/texts.txt").read_text(encoding="utf-8").splitlines() == texts
    table = pandas.read_parquet("data/entries.parquet")
    assert table["text"].tolist() == texts
    assert table["id"].is_unique
    assert np.array_equal(np.stack(table["embedding"]), rows.astype(np.float32))
    assert out("demo --data data")[0] == 2, "nothing is replaced without --force"
    code, stdout, _ = out("demo --data data --force --json")
    assert (code, set(json.loads(stdout)["files"])) == (0, {"embeddings", "texts", "table"})
    code, _, stderr = out("demo --data more --epochs 3")
    assert (code, "--epochs has no effect with --data" in stderr) == (2, True)


def test_the_tutorial_demo_tells_rates_and_memory(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)

    code, _, stderr = out("demo --tutorial --rows 3000 --clusters 20 --epochs 2")

    assert code == 0
    assert "rows/s" in stderr
    assert "GFLOP/s over 2 epochs" in stderr
    assert "peak memory" in stderr
    assert KMeans.load("demo-output/model").cluster_centers_.shape == (20, 768)


def test_tutorial_rows_are_random_unit_vectors():
    rows = random_unit_rows(5000, quiet=True)

    lengths = (rows.double() ** 2).sum(dim=1)
    assert float((lengths - 1).abs().max()) < 2**-20
    assert len(torch.unique(rows, dim=0)) == 5000
    # independent directions in 768 dimensions: the mean of 5000 has a length of about 1 / sqrt(5000)
    assert float(rows.double().mean(dim=0).norm()) < 2 / 5000**0.5


def test_peak_memory_grows_with_what_is_held():
    before = peak_bytes()
    held = np.ones((1 << 28) + before, np.uint8)

    assert peak_bytes() >= held.nbytes


def test_without_the_extra_packages_the_way_to_them_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)  # as Python remembers what can't be imported

    with pytest.raises(SystemExit) as end:
        __main__.main()

    assert end.value.code == 2
    assert 'needs typer. Install what is missing with: pip install "cosmeans[cli]"' in capsys.readouterr().err


def test_the_command_says_its_version(out):
    code, stdout, _ = out("--version")

    assert code == 0
    assert stdout.startswith("cosmeans ")


def test_an_unwritable_place_fails_before_the_work(folder, out, monkeypatch):
    (folder / "file").write_text("")
    code, _, stderr = out("fit rows.npy -k 4 --out file/result")
    assert (code, "a part of the path is a file where a folder is needed" in stderr) == (1, True)

    monkeypatch.setattr(
        os, "access", lambda _, mode: not mode & os.W_OK
    )  # tests may run as root, who may write anywhere
    code, _, stderr = out("fit rows.npy -k 4 --out result")
    assert (code, "permission denied" in stderr) == (1, True)
    assert not (folder / "result").exists()


def test_a_damaged_model_is_told(folder, out):
    out("fit rows.npy -k 4 --out result")
    shutil.copytree("result/model", "copy")
    (folder / "copy/model.safetensors").write_bytes(b"")

    code, _, stderr = out("predict copy rows.npy")

    assert (code, "is damaged" in stderr) == (2, True)


def test_typer_gets_no_traceback_of_its_own():
    assert isinstance(app, typer.Typer)
    assert app.pretty_exceptions_enable is False
