"""What calls take besides the rows: never a copy of them, whatever their numbers and order."""

import sys

import pytest

from peaks import told_by

# as benchmarks/memory.py measures it, with all calls in one process
MEASURE = """
import numpy as np
from cosmeans import KMeans
from cosmeans.analysis.evaluation import evaluate
from cosmeans.analysis.queries import top


def rows(n, kind, order):
    block = np.random.default_rng(0).standard_normal((1024, 256), dtype=np.float32)
    out = np.empty((n, 256), kind, order)
    for start in range(0, n, 1024):
        out[start : start + 1024] = np.roll(block, start // 1024, axis=1)
    return out


def new(batch_size=None):
    return KMeans(8, batch_size, 1, random_state=0, memory_limit=0, verbose=0, backend="cpu")


CALLS = {
    "fit": lambda x: new().fit(x),
    "fit, batch_size=N": lambda x: new(len(x)).fit(x),
    "predict": lambda x: model.predict(x),
    "evaluate": lambda x: evaluate(model, x, sample_size=100),
    "top": lambda x: top(model, x),
}
for kind, order in (("f2", "C"), ("f4", "F"), (">f4", "C")):
    x = rows(4096, kind, order)
    model = CALLS["fit"](x)
    for call in CALLS.values():
        call(x)
    x = rows(65_536, kind, order)
    for name, call in CALLS.items():
        print(f"{name}: {kind} {order}", peak_of(lambda: call(x))[0], sep="|")
"""


@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for anonymous memory")
def test_no_call_copies_the_rows():
    """65,536 x 256: 32 MiB of float16, 64 MiB of float32 in any order of numbers and bytes; calls need 10 to 35 MiB."""
    told = told_by(MEASURE)
    besides = {name: int(size) for name, size in (line.split("|") for line in told.splitlines())}
    assert len(besides) == 15
    limit = 40 << 20
    assert {name: size >> 20 for name, size in besides.items() if size > limit} == {}


# one row group, as some writers make it: 256 MB of vectors and 120 MB of text, in 2,000,000 rows
LABELS = """
import sys
import numpy as np
import pyarrow
from pyarrow import parquet
from pathlib import Path
from cosmeans import KMeans, open_rows
from cosmeans._estimator.file_labels import FileLabels
from cosmeans.cli.outputs import write_labels
from cosmeans.label_files.columns import Carried
from cosmeans.label_files.folder import TableOptions

def write(path, n):
    vectors = np.random.default_rng(0).standard_normal(n * 32, dtype=np.float32)
    lists = pyarrow.FixedSizeListArray.from_arrays(vectors, 32)
    texts = pyarrow.array([f"{row:060d}" for row in range(n)])
    parquet.write_table(pyarrow.table({"embedding": lists, "text": texts}), path, row_group_size=n)


if sys.argv[1] == "write":
    write("small.parquet", 5000)
    write("large.parquet", 2_000_000)
    lists = pyarrow.FixedSizeListArray.from_arrays(np.random.default_rng(0).random(4000 * 32), 32)
    one = pyarrow.DictionaryArray.from_arrays(np.zeros(4000, np.int32), ["x" * 1_000_000])
    parquet.write_table(pyarrow.table({"embedding": lists, "text": one}), "long.parquet")
    model = KMeans(8, epochs=1, random_state=0, verbose=0, memory_limit=0, backend="cpu").fit("small.parquet")
    model.save("model")
    sys.exit()
model, TEXT = KMeans.load("model").set_params(verbose=0, memory_limit=0), Carried(None, ("text",))
CALLS = {
    "folder": lambda path, out: FileLabels(model, open_rows(path)).write(Path(out), TableOptions(carried=TEXT)),
    "one table": lambda path, out: write_labels(
        Path(out + ".parquet"), open_rows(path), FileLabels(model, open_rows(path)), TEXT, force=False),
    "one long text": lambda path, out: FileLabels(model, open_rows("long.parquet")).write(
        Path(out), TableOptions(carried=TEXT)),
    "partitions": lambda path, out: FileLabels(model, open_rows(path)).write(Path(out), TableOptions(partition=True)),
    "transform": lambda path, out: model.transform(path, out=out + ".npy"),
}
for name, call in CALLS.items():
    if name != "one long text":
        call("small.parquet", f"small {name}")
    print(f"{name}|{peak_of(lambda: call('large.parquet', f'large {name}'))[0]}")
"""


@pytest.mark.linux
@pytest.mark.soak
def test_tables_of_labels_take_no_more_memory_for_more_rows(tmp_path):
    """2,000,000 rows of 376 MB: two pieces of 64 MiB, a chunk of a table, and what pyarrow decodes at once.

    And 4000 rows of one text, 4 GB if each had its own.
    """
    for step in ("write", "measure"):
        told = told_by(LABELS, step, cwd=tmp_path)
    found = {name: int(size) >> 20 for name, size in (line.split("|") for line in told.splitlines())}
    assert len(found) == 5
    assert {name: size for name, size in found.items() if size > 320} == {}
