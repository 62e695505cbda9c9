"""Text of others, wherever a command takes it: nothing acts on a screen or in a file, and all of it is written."""

import csv
import io
import json
import os
import shutil
import unicodedata

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from cosmeans import KMeans
from cosmeans.cli import run

ORDER = {chr(code) for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
HOSTILE = [
    "\x1b]0;title\x07\x1b[2J\x1b[31mred", "\x9b31mC1\x85next", "\u202eevil\u2066x", "lone \ud800 and \udcff",
    "=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1)", "\t=1", "line\nbreak\r\nand\rreturn\u2028x",
    "<script>alert(1)</script>",
    "![x](http://e/) [a](javascript:b)", "# head", "- [ ] task",
    "a\0b\x7f", "\ufeff=1", "&lt; <!--", "```",
    "[/red][bold]x", ":smile:", "", "Zürich", "日本語", "x" * 3000,
]  # fmt: skip
NAME = os.fsdecode(b"n\xff\x1b[31m\n")  # a file may be called so on Linux
N = len(HOSTILE) * 3


def acting(text, allowed="\n"):
    """Characters of the text that act on a terminal, by their categories."""
    return {c for c in set(text) - set(allowed) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in ORDER}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    rows = (np.repeat(np.eye(8)[:4], N // 4, axis=0) * 3 + rng.standard_normal((N, 8))).astype(np.float32)
    rows[1] = rows[0]
    np.save(folder / (NAME + ".npy"), rows)
    np.savez(folder / "a.npz", **{"one\x1b[31m": rows, "two": rows})
    lines = "".join(json.dumps({"t\x1b]0;": HOSTILE[i % len(HOSTILE)], "x\u202e": i}) + "\n" for i in range(N))
    (folder / "texts.jsonl").write_text(lines)
    for k, name in ((4, "old"), (5, NAME)):
        KMeans(k, random_state=0, verbose=0).fit(rows).save(folder / name)
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """Rows, hostile texts of every kind, and two models; all names are hostile."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


TEXTS = ("--texts", "texts.jsonl", "--column", "t\x1b]0;")
ROWS = NAME + ".npy"
DONE = [
    ("fit", ROWS, "-k", "4", *TEXTS, "--report", "--out", NAME + "fit"),
    ("fit", ROWS, "-k", "4", "--json"),
    ("report", NAME, ROWS, *TEXTS, "--title", HOSTILE[0] + HOSTILE[3]),
    ("top", "old", ROWS, *TEXTS, "--out", NAME + "top.csv"),
    ("exemplars", NAME, ROWS, "-m", "20", *TEXTS, "--out", "e.csv"),
    ("exemplars", NAME, ROWS, "-m", "20", *TEXTS),
    ("outliers", NAME, ROWS, "--quantile", "1", *TEXTS, "--out", NAME + "o.csv"),
    ("outliers", NAME, ROWS, "--quantile", "1", *TEXTS, "--out", "o.parquet"),
    ("dedup", NAME, ROWS, "--threshold", "0.5", *TEXTS, "--removed", "gone.csv"),
    ("evaluate", NAME, ROWS, "--classes", "texts.jsonl", "--column", "t\x1b]0;"),
    ("match", "old", NAME, "--embeddings", ROWS, "--plot", NAME + ".png", "--out", NAME + "m.json"),
    ("choose-k", ROWS, "--ks", "2,3", "--seeds", "1", "--out", NAME + "chosen"),
    ("predict", NAME, ROWS, "--out", NAME + "l.npy"),
    ("info", NAME), ("info", ROWS), ("info", ROWS, "--json"),
    ("plot", NAME, "--out", NAME + "p.png"),
]  # fmt: skip
REFUSED = [
    ("fit", NAME + "none.npy", "-k", "4"), ("fit", "a.npz", "-k", "4"),
    ("fit", "a.npz", "-k", "4", "--key", HOSTILE[0]),
    ("fit", ROWS, "-k", "4", "--texts", "texts.jsonl"), ("fit", ROWS, "-k", "4", *TEXTS[:3], HOSTILE[3]),
    ("fit", ROWS, "-k", HOSTILE[0]), ("fit", ROWS, "-k", "4", "--init", HOSTILE[2]), ("fit", ROWS, "-k", "999"),
    ("fit", ROWS, "-k", "4", "--device", HOSTILE[0]), ("fit", ROWS, "-k", "4", "--backend", HOSTILE[3]),
    ("fit", ROWS, "--" + HOSTILE[0]), (HOSTILE[0],), (HOSTILE[3], HOSTILE[2]), ("info", NAME + "none"), ("info",),
    ("predict", NAME, ROWS, "--out", NAME), ("top", "old", ROWS, "--out", NAME + ".x"), ("plot", NAME + HOSTILE[0][:5]),
    ("match", "old", NAME, HOSTILE[3]), ("choose-k", ROWS, "--ks", HOSTILE[0]),
    ("evaluate", NAME, ROWS, "--column", NAME),
    ("predict", NAME, "-", "--key", NAME), ("report", NAME, ROWS, "--projection", HOSTILE[1]),
]  # fmt: skip


def ran(arguments, capsys):
    code = run(list(arguments))
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        text.encode("utf-8")
        assert acting(text) == set()
    return code, captured


@pytest.mark.parametrize("arguments", DONE, ids=lambda arguments: f"{arguments[0]} {arguments[-1]!a:.20}")
def test_every_command_takes_hostile_text(folder, capsys, arguments):
    before = set(folder.rglob("*"))

    code, captured = ran(arguments, capsys)

    assert code == 0, captured.err
    for path in set(folder.rglob("*")) - before:
        if path.suffix in (".csv", ".md", ".html", ".json"):
            marks = "\n\t\u061c\u200e\u200f" if path.suffix == ".csv" else "\n"
            assert acting(path.read_bytes().decode("utf-8"), marks) == set()
        if path.suffix == ".parquet":
            parquet.read_table(io.BytesIO(path.read_bytes())).validate(full=True)


@pytest.mark.parametrize("arguments", REFUSED, ids=lambda arguments: f"{arguments!a:.50}")
def test_every_refusal_of_hostile_text_is_one_line(folder, capsys, arguments):
    code, captured = ran(arguments, capsys)

    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1


def test_texts_of_clusters_are_lines_without_markup(folder, capsys):
    assert ran(DONE[0], capsys)[0] == 0

    lines = (folder / (NAME + "fit") / "clusters.md").read_text(encoding="utf-8").splitlines()
    assert {line[:2] for line in lines if line} <= {"# ", "##", "- "}
    assert sum(line.startswith("#") for line in lines) == 5
    shown = {line[2:] for line in lines}
    assert {
        "Zürich",
        "日本語",
        r"\# head",
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        r"lone \\ud800 and \\udcff",
    } <= shown


def test_cells_of_texts_are_no_formulas_and_parquet_keeps_the_text(folder, capsys):
    for out in ("t.csv", "t.parquet"):
        assert ran(("outliers", "old", ROWS, "--quantile", "1", *TEXTS, "--out", out), capsys)[0] == 0

    with open("t.csv", newline="", encoding="utf-8") as file:
        cells = {int(line["row"]): line["text"] for line in csv.DictReader(file)}
    table = parquet.read_table("t.parquet")
    texts = dict(zip(table["row"].to_pylist(), table["text"].to_pylist(), strict=True))
    assert table.schema.field("text").type == pyarrow.string()
    for i, text in enumerate(HOSTILE):
        assert not cells[i].strip().startswith(("=", "+", "-", "@"))
        assert texts[i] == text.replace("\ud800", "\\ud800").replace("\udcff", "\\udcff")
    assert cells[HOSTILE.index("+1")] == "'+1"
    assert cells[HOSTILE.index("Zürich")] == "Zürich"
