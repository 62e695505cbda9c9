"""What calls take besides the rows: never a copy of them, whatever their numbers and order."""

import os
import subprocess
import sys

import pytest

# as benchmarks/memory.py measures it, with all calls in one process
MEASURE = """
import threading, time
import numpy as np
from cosmeans import KMeans
from cosmeans.analysis.evaluation import evaluate
from cosmeans.analysis.queries import top


def anonymous():
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def watch():
    while not done.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)


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
for kind, order in (("f2", "C"), ("f4", "F")):
    x = rows(4096, kind, order)
    model = CALLS["fit"](x)
    for call in CALLS.values():
        call(x)
    x = rows(65_536, kind, order)
    for name, call in CALLS.items():
        before, peak, done = anonymous(), [0], threading.Event()
        watcher = threading.Thread(target=watch)
        watcher.start()
        result = call(x)
        done.set()
        watcher.join()
        del result
        print(f"{name}: {kind} {order}", peak[0] - before, sep="|")
"""


# glibc keeps what was freed, and more of it from call to call: an arena for each thread that met another one, and
# blocks of up to 32 MiB once such a block was freed. With fixed limits freed memory goes back at once, so that the peak
# is what the call holds, whatever else the machine does.
GIVEN_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}


@pytest.mark.linux
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for anonymous memory")
def test_no_call_copies_the_rows():
    """65,536 x 256: 32 MiB of float16, 64 MiB of float32 in any order; calls need 10 to 30 MiB besides them."""
    child = [sys.executable, "-c", MEASURE]
    told = subprocess.run(child, check=True, capture_output=True, text=True, env=os.environ | GIVEN_BACK).stdout
    besides = {name: int(size) for name, size in (line.split("|") for line in told.splitlines())}
    assert len(besides) == 10
    limit = 40 << 20
    assert {name: size >> 20 for name, size in besides.items() if size > limit} == {}
