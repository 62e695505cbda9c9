"""The cases of worst.py on a CUDA device, beside random rows of the same shape.

    python benchmarks/gpu_worst.py [--rows 20000] [--features 384] [--clusters 1000] [--epochs 3] [--rounds 5] [--dry]

Rows are on the device before anything is timed. Seconds are the least of the rounds, after one round that compiles;
`settled` is how many rows of a fit got canonical scores. Appends a record for each case to
benchmarks/results/worst.jsonl.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import torch

from cosmeans import KMeans
from worst import CASES, arguments, keep


def timed(work: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    options = arguments(__doc__, rounds=5)
    n, d, k = options.rows, options.features, options.clusters
    seconds: dict[str, tuple[float, float]] = {}
    for name, make in CASES.items():
        rows, first = (torch.from_numpy(np.ascontiguousarray(part)).cuda() for part in make(n, d, k))
        model = KMeans(k, verbose=0)
        model.centers = first
        fit = KMeans(k, epochs=options.epochs, init=first, verbose=0, warm_start=False)
        work = partial(model.predict, rows), partial(fit.fit, rows)
        took = [tuple(map(timed, work)) for _ in range(options.rounds + 1)]
        seconds[name] = min(one for one, _ in took[1:]), min(two for _, two in took[1:])
        ratios = [round(here / there, 2) for here, there in zip(seconds[name], seconds["random"], strict=True)]
        record = {"case": name, "rows": n, "features": d, "clusters": k, "epochs": options.epochs}
        record |= {"predict s": round(seconds[name][0], 5), "fit s": round(seconds[name][1], 5)}
        record |= {"predict / random": ratios[0], "fit / random": ratios[1]}
        record |= {"settled": sum(cost.settled for cost in fit.costs_)}
        record |= {"device": torch.cuda.get_device_name(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
        print("  ".join(f"{key} {value}" for key, value in record.items()), flush=True)
        keep(record, options.dry)


if __name__ == "__main__":
    main()
