"""A call is what it is wherever it comes from: contexts, compiled functions, children of a fork."""

import ast
import inspect
import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

import cosmeans
from cosmeans import KMeans, calls, top
from cosmeans.errors import BackendUnavailableError, DeviceMemoryError, EmptyClusterError

PACKAGE = Path(cosmeans.__file__).parent
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(*command):
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# ------------------------------------------------------------------------ a fork


@pytest.mark.linux
@forks
def test_forked_children_fit_while_three_threads_fit():
    assert run(Path(__file__).with_name("forking.py"), "2") == ["all right"]


@pytest.mark.linux
@forks
@pytest.mark.soak
def test_forty_forked_children_fit_while_three_threads_fit():
    assert run(Path(__file__).with_name("forking.py"), "40") == ["all right"]


@pytest.mark.linux
@forks
@pytest.mark.soak
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "loky"])
def test_processes_of_every_kind_give_the_same_bits(method):
    assert run(Path(__file__).with_name("forking.py"), method) == ["all right"]


@pytest.mark.linux
@forks
def test_a_fork_waits_for_what_a_lock_guards_and_leaves_it_free():
    lock, inside, whole = calls.Lock(), threading.Event(), []

    def work():
        with lock:
            inside.set()
            threading.Event().wait(0.2)
            whole.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        with lock:
            os._exit(int(not whole))
    thread.join()

    assert os.waitpid(child, 0)[1] == 0
    with lock:
        assert whole == [True]


OF_THREADS = {"Lock", "RLock", "Condition", "Event", "Semaphore", "Barrier", "Queue", "SimpleQueue"}


def lasting_locks(tree):
    """What a module makes of `threading`, `multiprocessing` or `queue` and keeps."""
    imported = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    classes = [statement for node in tree.body if isinstance(node, ast.ClassDef) for statement in node.body]
    for statement in [*tree.body, *classes]:
        for node in ast.walk(statement) if isinstance(statement, ast.Assign | ast.AnnAssign) else ():
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                name = imported.get(name, name)
                if name.split(".")[-1] in OF_THREADS and "calls" not in name:
                    yield name


def test_every_lock_of_a_module_survives_a_fork():
    found = {file.name: list(lasting_locks(ast.parse(file.read_text()))) for file in PACKAGE.rglob("*.py")}

    assert {name: locks for name, locks in found.items() if locks} == {}


# ------------------------------------------------- contexts and compiled functions

ROWS = torch.randn((300, 16), dtype=torch.float32, generator=torch.Generator("cpu").manual_seed(0))


class Modes(TorchFunctionMode):
    """One that looks at every function of torch and changes nothing."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@contextmanager
def during(setting, inside, outside):
    setting(inside)
    try:
        yield
    finally:
        setting(outside)


CONTEXTS = {
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float16 autocast": lambda: torch.autocast("cpu", torch.float16),
    "a device": lambda: torch.device("meta"),
    "a function mode": Modes,
    "default device": lambda: during(torch.set_default_device, "meta", None),
    "default dtype": lambda: during(torch.set_default_dtype, torch.float64, torch.float32),
    "a narrow default dtype": lambda: during(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "deterministic": lambda: during(torch.use_deterministic_algorithms, inside=True, outside=False),
    "matmul precision": lambda: during(torch.set_float32_matmul_precision, "medium", "highest"),
    "flush denormal": lambda: during(torch.set_flush_denormal, inside=True, outside=False),
    "one thread": lambda: during(torch.set_num_threads, 1, torch.get_num_threads()),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
}


def fitted(rows):
    return KMeans(8, epochs=4, random_state=0, init="k-means++", verbose=0).fit(rows)


def everything(model, rows):
    """What a model says of rows, tensors first."""
    near = top(model, rows, 2)
    tensors = [model.cluster_centers_, model.labels_, model.similarity_, model.counts_, model.predict(rows)]
    return [*tensors, model.transform(rows), near.labels, near.cosines], [model.score(rows), model.similarities]


@pytest.mark.parametrize("rows", [ROWS, ROWS.double(), ROWS.to(torch.bfloat16)], ids=lambda rows: str(rows.dtype))
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_around_a_call_changes_nothing_in_it_and_nothing_after_it(context, rows):
    first, second = everything(fitted(rows), rows), everything(fitted(rows).fit(rows), rows)
    outside = fitted(rows)

    with context():
        inside = fitted(rows.clone())
        begun = [everything(inside, rows), everything(outside, rows.clone())]
        gone_on = [everything(outside.fit(rows), rows)]
    begun += [everything(inside, rows), everything(fitted(rows), rows)]
    gone_on += [everything(inside.fit(rows), rows), everything(outside, rows)]

    for (tensors, numbers), (right, right_numbers) in [*((b, first) for b in begun), *((g, second) for g in gone_on)]:
        assert not any(tensor.is_inference() or tensor.requires_grad for tensor in tensors)
        assert [tensor.dtype for tensor in tensors] == [tensor.dtype for tensor in right]
        assert all(map(torch.equal, tensors, right))
        assert numbers == right_numbers


def test_rows_centers_and_weights_made_in_inference_mode_are_taken():
    with torch.inference_mode():
        rows, centers, weights = ROWS.clone(), ROWS[:8].clone(), torch.ones(len(ROWS), dtype=torch.float64)
    model = KMeans(8, epochs=4, init=centers, random_state=0, verbose=0).fit(rows, sample_weight=weights)
    set_before = KMeans(8, epochs=4, random_state=0, verbose=0)
    set_before.centers = centers

    assert torch.equal(model.cluster_centers_, set_before.fit(rows).cluster_centers_)
    assert not model.cluster_centers_.is_inference()


def test_a_compiled_function_calls_it_uncompiled():
    expected, graphs = fitted(ROWS), []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda rows: (rows * 2, fitted(rows)), backend=backend)
    doubled, model = compiled(ROWS)
    predict = torch.compile(lambda rows: expected.predict(rows) + 1, backend=backend)

    assert torch.equal(doubled, ROWS * 2)
    assert torch.equal(model.cluster_centers_, expected.cluster_centers_)
    assert torch.equal(predict(ROWS), expected.labels_ + 1)
    functions = [node.target.__name__ for graph in graphs for node in graph.graph.nodes if callable(node.target)]
    assert sorted(functions) == ["add", "mul"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.compile(lambda rows: fitted(rows), backend=backend)(torch.cat([ROWS, 0 * ROWS[:1]]))
    assert [warning.filename for warning in told] == [__file__]
    torch.compiler.reset()


# ------------------------------------------------------------------------- a GPU


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total ..."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        BackendUnavailableError("CUDA answered CUDA_ERROR_OUT_OF_MEMORY when ..."),
    ],
    ids=lambda error: str(error)[:24],
)
@pytest.mark.parametrize("asked", [True, False])
def test_a_full_gpu_is_an_error_of_ours_whoever_finds_out(error, asked, monkeypatch):
    def free():
        if not asked:
            raise RuntimeError("CUDA error: out of memory")
        return 17 << 20, 141 << 30

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)

    @calls.public
    def call():
        raise error

    with pytest.raises(DeviceMemoryError, match="17 of 144,384 MiB are free" if asked else "it is full") as caught:
        call()

    assert caught.value.__cause__ is error
    assert ("2.50 GiB" in str(error)) == ("for 2.50 GiB more" in str(caught.value))


@pytest.mark.parametrize(
    "error", [RuntimeError("something else"), EmptyClusterError("memory"), MemoryError("out of memory")]
)
def test_other_errors_stay_what_they_are(error):
    @calls.public
    def call():
        raise error

    with pytest.raises(type(error)) as caught:
        call()

    assert caught.value is error


def test_a_child_of_a_process_that_used_a_gpu_computes_on_the_cpu_or_says_why_not(monkeypatch, capsys):
    expected = fitted(ROWS)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    capsys.readouterr()

    models = [KMeans(8, epochs=4, init="k-means++", random_state=0, verbose=1).fit(ROWS) for _ in range(2)]

    assert all(torch.equal(model.labels_, expected.labels_) for model in models)
    assert capsys.readouterr().err.count("spawn") == 1
    for options in ({"device": "cuda"}, {"device": "cuda:1"}, {"backend": "gpu"}):
        with pytest.raises(BackendUnavailableError, match=r"forked.*spawn"):
            KMeans(8, **options).fit(ROWS)

    @calls.public
    def call():
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, ...")

    with pytest.raises(BackendUnavailableError, match=r"forked.*spawn.*saved before"):
        call()


def test_every_public_function_that_computes_begins_this_way():
    """All but constructors, and what only looks at or forgets what is there."""
    functions = [value for name in cosmeans.__all__ if inspect.isfunction(value := getattr(cosmeans, name))]
    methods = [value for name, value in vars(KMeans).items() if not name.startswith("_") and inspect.isfunction(value)]
    methods += [KMeans.load, KMeans.centers.fset]

    bare = {function.__name__ for function in [*functions, *methods] if not hasattr(function, "_torchdynamo_disable")}

    assert bare <= {"reset", "safe_globals"}
