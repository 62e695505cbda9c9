"""What surrounds a call, every public function, a full card and a fork, on a GPU.

PYTHONPATH=src python benchmarks/gpu_face.py: one line a check, exit 1 if one failed. `--device cpu` tries the script
itself, without what needs a GPU.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib.util
import os
import pickle
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cosmeans import (
    KMeans,
    choose_k,
    deduplicate,
    empty_cache,
    evaluate,
    exemplars,
    match,
    moved,
    outliers,
    reorder,
    top,
)
from cosmeans.errors import BackendUnavailableError, DeviceMemoryError

DEVICE = "cuda"
SHAPES = {"small": (3000, 64, 20), "longer": (60_000, 128, 300)}  # replayed in a pooled workspace; neither
LEFT = 17 << 20  # bytes free on a full card
failed: list[str] = []


def host_rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def fitted(rows: Any, k: int, **options: Any) -> KMeans:
    settings = {"epochs": 5, "random_state": 0, "verbose": 0, "device": DEVICE} | options
    weights = settings.pop("weights", None)
    return KMeans(k, **settings).fit(rows, sample_weight=weights)


def plain(value: Any) -> Any:
    """Arrays of NumPy, for whatever came out."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def digest(*values: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(plain(value)).tobytes() for value in values)).hexdigest()[:12]


def bits(model: KMeans, rows: Any) -> str:
    return digest(model.cluster_centers_, model.labels_, model.similarity_, model.predict(rows), model.similarities)


def check(name: str, work: Callable[[], Any], expected: Any = True) -> None:
    """One line. The work returns what is expected, or raises."""
    started = time.perf_counter()
    try:
        found = work()
        wrong = "" if found == expected else f"{found} instead of {expected}"
    except Exception as error:  # noqa: BLE001  whatever it is, the others are checked
        wrong = "".join(traceback.format_exception_only(error)).strip().splitlines()[0][:300]
        where = traceback.extract_tb(error.__traceback__)[-1]
        wrong += f" ({Path(where.filename).name}:{where.lineno})"
    if wrong:
        failed.append(name)
    print(f"{'FAILED' if wrong else 'right':8} {time.perf_counter() - started:6.2f} s  {name} {wrong}", flush=True)


# ------------------------------------------------------------------- contexts


@contextmanager
def during(setting: Callable[[Any], Any], inside: Any, outside: Any) -> Iterator[None]:
    setting(inside)
    try:
        yield
    finally:
        setting(outside)


def contexts() -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    found: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "inference mode": torch.inference_mode,
        "no_grad": torch.no_grad,
        "autocast float16": lambda: torch.autocast(DEVICE, torch.bfloat16 if DEVICE == "cpu" else torch.float16),
        "autocast bfloat16": lambda: torch.autocast(DEVICE, torch.bfloat16),
        "autocast on the CPU": lambda: torch.autocast("cpu", torch.bfloat16),
        "with the device": lambda: torch.device(DEVICE),
        "with meta": lambda: torch.device("meta"),
        "default device": lambda: during(torch.set_default_device, DEVICE, None),
        "default dtype float64": lambda: during(torch.set_default_dtype, torch.float64, torch.float32),
        "default dtype float16": lambda: during(torch.set_default_dtype, torch.float16, torch.float32),
        "deterministic": lambda: during(torch.use_deterministic_algorithms, True, False),
        "matmul precision": lambda: during(torch.set_float32_matmul_precision, "medium", "highest"),
        "flush denormal": lambda: during(torch.set_flush_denormal, True, False),
        "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    }
    if DEVICE == "cuda":
        found["a stream"] = lambda: torch.cuda.stream(torch.cuda.Stream())
    return found


def all_contexts() -> None:
    """Inside and then outside, and the other way round, with the memory that one leaves to the other."""
    for shape, (n, d, k) in SHAPES.items():
        if DEVICE == "cpu" and shape != "small":
            continue
        host = host_rows(n, d)
        for where, rows in {"rows there": torch.from_numpy(host).to(DEVICE), "host rows": host}.items():
            expected = bits(fitted(host, k, device="cpu"), host)
            for name, context in contexts().items():
                check(f"{shape}, {where}: {name}", lambda c=context, r=rows, k=k: _in_both_orders(c, r, k), {expected})  # type: ignore[misc]


def _in_both_orders(context: Callable[[], AbstractContextManager[Any]], rows: Any, k: int) -> set[str]:
    found = set()
    for first_inside in (True, False):
        empty_cache()
        models = []
        for inside in (first_inside, not first_inside, first_inside):
            if inside:
                with context():
                    models.append(fitted(rows, k))
                    found.add(bits(models[-1], rows))
            else:
                models.append(fitted(rows, k))
                found.add(bits(models[-1], rows))
        found |= {bits(model, rows) for model in models}
        kept = [v for model in models for v in (model.cluster_centers_, model.labels_) if isinstance(v, torch.Tensor)]
        if any(value.is_inference() for value in kept):
            found.add("a result is an inference tensor")
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return found


def on_streams(turns: int = 6) -> set[str]:
    """Rows made on a stream are clustered there, while others wait for nothing."""
    n, d, k = SHAPES["small"]
    host, found = torch.from_numpy(host_rows(n, d)).pin_memory(), set()
    streams = [torch.cuda.Stream() for _ in range(3)]
    for turn in range(turns):
        with torch.cuda.stream(streams[turn % 3]):
            torch.cuda._sleep(20_000_000)
            rows = host.to("cuda", non_blocking=True) * 2.0
            found.add(bits(fitted(rows / 2.0, k), host))
    return found


# ----------------------------------------------------------------- whole face


def kinds(host: np.ndarray) -> dict[str, Any]:
    there = torch.from_numpy(host).to(DEVICE)
    wide = torch.zeros((len(host), 2 * host.shape[1]), dtype=torch.float32, device=DEVICE)
    wide[:, ::2] = there
    return {
        "tensor": there,
        "float64": there.double(),
        "every other column": wide[:, ::2],
        "columns side by side": there.T.contiguous().T,
        "list of tensors": list(there),
        "with a gradient": there.clone().requires_grad_(),
        "made in inference mode": _in_inference(there),
        "tensor of the host": torch.from_numpy(host),
        "array": host,
        "lists": host.tolist(),
    }


def _in_inference(rows: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return rows.clone()


def face(rows: Any, host: np.ndarray, k: int, device: str, folder: Path) -> dict[str, str]:
    """What every public function says of rows, under models fitted on them, by name."""
    model, other = fitted(rows, k, device=device), fitted(rows, k + 1, device=device, random_state=1)
    near, far, typical = top(model, rows, 2), outliers(model, rows, quantile=0.1), exemplars(model, rows, 2)
    double = deduplicate(model, rows, 0.6)
    before, found = model.predict(rows), {}
    found["fit"] = bits(model, rows)
    found["attributes"] = digest(model.counts_, model.inertia_, model.n_distinct_, model.n_iter_, model.centers)
    found["transform, score"] = digest(model.transform(rows), model.score(rows), copy.deepcopy(model).predict(rows))
    found["top, outliers"] = digest(near.labels, near.cosines, far.rows, far.cosines)
    found["exemplars, deduplicate"] = digest(typical.rows, typical.cosines, double.kept)
    found["evaluate"] = str(evaluate(model, rows, np.arange(len(host)) % 3).to_json())
    found["match, moved, reorder"] = digest(match(model, other).cosines, reorder(model, "size").centers)
    found["moved"] = str(moved(model, other, rows).to_json())
    found["choose_k"] = str(choose_k(rows, [2, 3], n_seeds=2, epochs=3, verbose=0).n_clusters)
    model.save(folder / "model", force=True)
    loaded, again = KMeans.load(folder / "model"), pickle.loads(pickle.dumps(model))
    found["load, pickle"] = digest(loaded.predict(rows), again.predict(rows), loaded.predict(host), before)
    found["load, pickle"] += digest(model.predict(host), fitted(host, k, device="cpu").predict(rows))
    found["go on"] = bits(model.fit(rows), rows)
    for init in ("k-means++", "nested"):
        found[init] = bits(fitted(rows, k, device=device, init=init, n_init=2, batch_size=500), rows)
    given = KMeans(k, epochs=3, random_state=0, verbose=0, device=device)
    given.centers = other.centers[:k]
    found["centers"] = bits(given.fit(rows), rows)
    if importlib.util.find_spec("matplotlib"):
        model.plot(folder / "fit.png")
    if importlib.util.find_spec("pandas"):
        frame = model.set_output(transform="pandas").transform(rows)
        found["set_output"] = digest(frame.to_numpy())
    if importlib.util.find_spec("jinja2"):
        KMeans.load(folder / "model").report(rows, folder / "report.html", force=True)
    return found


def whole_face() -> None:
    host, k = host_rows(2000, 32), 7
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        expected = face(host, host, k, "cpu", folder)
        for kind, rows in kinds(host).items():
            check(f"every function: {kind}", lambda r=rows: face(r, host, k, DEVICE, folder), expected)  # type: ignore[misc]
        weights = np.linspace(0.5, 2.0, len(host))
        right = bits(fitted(host, k, device="cpu", weights=weights, init=host[:k]), host)
        there = torch.from_numpy(host).to(DEVICE)
        ours = {"weights": torch.from_numpy(weights).to(DEVICE), "init": there[:k]}
        check("weights and first centroids there", lambda: bits(fitted(there, k, **ours), there), right)
        check(
            "weights and first centroids of the host",
            lambda: bits(fitted(host, k, weights=weights, init=host[:k]), host),
            right,
        )


def left_out() -> None:
    """Rows that are skipped, zero or of weight 0, against the reference from the same first centroids."""
    for kind in (torch.float32, torch.float16):
        host = torch.from_numpy(host_rows(4000, 48, 3)).to(kind)
        host[[0, 2000, 3999]], host[[1, 1999]], weights = torch.nan, 0.0, np.ones(4000)
        host[7, 3], weights[::5] = torch.inf, 0.0
        settings = {"nonfinite": "skip", "zero_rows": "skip", "weights": weights, "init": host_rows(30, 48, 4)}
        right = bits(fitted(host, 30, device="cpu", backend="reference", **settings), host)
        places = {"there": host.to(DEVICE), "on the host": host}
        for place, rows in places.items():
            here = settings | {"init": torch.from_numpy(settings["init"]).to(rows.device)}  # type: ignore[call-overload]
            here["weights"] = torch.from_numpy(weights).to(rows.device)
            check(f"rows left out, {kind}, {place}", lambda r=rows, s=here: bits(fitted(r, 30, **s), r), right)  # type: ignore[misc]


# -------------------------------------------------------------- only on a GPU


def outcome(work: Callable[[], Any]) -> str:
    """What a call on a full card came to."""
    try:
        work()
    except DeviceMemoryError as error:
        return "told" if "MiB" in str(error) else f"without sizes: {error}"
    return "done"


def full_card() -> None:
    host, k = host_rows(40_000, 256, 5), 500
    rows, model = torch.from_numpy(host).cuda(), fitted(host, k, device="cpu")
    half = rows[:, :200].half()
    expected = bits(fitted(rows, k), rows)
    empty_cache()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    hogs = [torch.empty(max(0, torch.cuda.mem_get_info()[0] - LEFT - (2 << 20)), dtype=torch.uint8, device="cuda")]
    print(f"         {torch.cuda.mem_get_info()[0] / 2**20:.0f} MiB are free", flush=True)
    calls: dict[str, tuple[Callable[[], Any], set[str]]] = {
        "fit of rows there": (lambda: fitted(rows, k), {"told"}),
        "fit of host rows": (lambda: fitted(host, k), {"told"}),
        "k-means++": (lambda: fitted(rows, k, init="k-means++"), {"told"}),
        "a fit where nothing was compiled": (lambda: fitted(half, k), {"told"}),
        "predict": (lambda: model.predict(rows), {"told", "done"}),
        "transform": (lambda: model.transform(rows), {"told"}),
        "top": (lambda: top(model, rows, 3), {"told", "done"}),
        "the reference backend": (lambda: fitted(rows, k, backend="reference"), {"told"}),
        "host rows, device auto": (lambda: fitted(host, k, device="auto"), {"done"}),
    }
    for name, (work, right) in calls.items():
        check(f"full card: {name}", lambda w=work, r=right: outcome(w) in r)  # type: ignore[misc]
    hogs.clear()
    torch.cuda.empty_cache()
    check("after a full card", lambda: bits(fitted(rows, k), rows), expected)
    check("after a full card, host rows", lambda: bits(fitted(host, k), host), expected)


def refused(work: Callable[[], Any]) -> bool:
    """Whether it is our error, with what to do."""
    try:
        work()
    except BackendUnavailableError as error:
        return "forked" in str(error) and "spawn" in str(error)
    return False


def forked() -> str:
    """Which statements are wrong in the child of a process that used the GPU."""
    host, k = host_rows(3000, 32, 6), 9
    rows = torch.from_numpy(host).cuda()
    model, expected = fitted(rows, k), bits(fitted(host, k, device="cpu"), host)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            calls = {
                "auto": bits(fitted(host, k, device="auto"), host) == expected,
                "cpu": bits(fitted(host, k, device="cpu"), host) == expected,
                "cuda": refused(lambda: fitted(host, k)),
                "gpu": refused(lambda: fitted(host, k, device="auto", backend="gpu")),
                "rows of the GPU": refused(lambda: fitted(rows, k, device="auto")),
                "a model of the GPU": refused(lambda: model.predict(host)),
                "saving it": refused(lambda: model.save(tempfile.mkdtemp(), force=True)),
            }
            wrong = [name for name, right in calls.items() if not right]
            told = "wrong: " + ", ".join(wrong) if wrong else "right"
        except BaseException as error:  # noqa: BLE001  the child must end here
            told = repr(error)
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        told = answers.read()
    os.waitpid(child, 0)
    return told


def main() -> int:
    global DEVICE
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default=DEVICE, choices=("cuda", "cpu"))
    DEVICE = parser.parse_args().device
    started = time.perf_counter()
    warnings.simplefilter("ignore")
    all_contexts()
    left_out()
    whole_face()
    if DEVICE == "cuda":
        n, d, k = SHAPES["small"]
        right = bits(fitted(host_rows(n, d), k, device="cpu"), host_rows(n, d))
        check("streams in turn", on_streams, {right})
        check("the child of a fork", forked, "right")
        full_card()
    print(f"{time.perf_counter() - started:.0f} s. " + (f"FAILED: {', '.join(failed)}" if failed else "ALL RIGHT"))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
