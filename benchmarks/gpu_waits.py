"""What the GPU waits for in a fit, and which fits are worth recording: python benchmarks/gpu_waits.py gaps limits."""

from __future__ import annotations

from typing import Any

import torch

from cosmeans.backends.gpu.tuning import DEFAULT
from gpu_common import fit, gpu, record, run_actions, unit_rows, wall


def gaps(n: int = 1_000_000, d: int = 768, k: int = 1000, epochs: int = 10) -> None:
    """Where the GPU waits in a fit: gaps of more than 5 us between what it does, and those before and after it all."""
    x = unit_rows(n, d)
    c = x[:k].float()
    run = lambda: fit(x, c, gpu(), epochs, empty_clusters="keep")  # noqa: E731
    run(), run()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found, torch.profiler.record_function("the fit"):
        run()
        torch.cuda.synchronize()
    events = found.events()
    whole = next(e.time_range for e in events if e.name == "the fit" and e.device_type.value == 0)
    done = sorted((e for e in events if e.device_type.value == 1 and e.name != "the fit"), key=_start)
    idle, longer, until = 0.0, 0.0, done[0].time_range.start
    last = "the beginning"
    for event in done:
        gap = event.time_range.start - until
        idle += max(0.0, gap)
        if gap > 5.0:
            longer += gap
            print(f"{gap:9.1f} us after {last[:50]:50} before {event.name[:50]}", flush=True)
        if event.time_range.end > until:
            until, last = event.time_range.end, event.name
    ends = {"before_us": done[0].time_range.start - whole.start, "after_us": whole.end - until}
    record("gaps", n=n, d=d, k=k, epochs=epochs, idle_us=idle, longer_us=longer, **ends)


def _start(event: Any) -> float:
    return float(event.time_range.start)


LIMITS = [(1 << 20, 128, 256), (1 << 20, 128, 1000), (300_000, 384, 256), (1 << 18, 768, 256), (1 << 17, 128, 1000)]


def limits(epochs: int = 10) -> None:
    """Fits of medium size, each replayed and started kernel by kernel: `Tuning.short` and `long` decide."""
    for n, d, k in LIMITS:
        x = unit_rows(n, d, dtype=torch.float16)
        c, times = x[:k].float(), {}
        for name, limit in {"recorded": 1.0, "started": 0.0}.items():
            backend = gpu(long=limit, most_pooled=0)  # rows stay where they are
            for passes in (epochs, 3 * epochs):
                run = lambda x=x, c=c, b=backend, p=passes: fit(x, c, b, p, empty_clusters="keep")  # noqa: E731
                run(), run()
                times[f"{name}, {passes} epochs"] = wall(run, 7, 0.05)
        modelled = n * (d * k * DEFAULT.per_product + DEFAULT.per_row) * 1e3
        record("limit", n=n, d=d, k=k, pass_ms=modelled, **times)


if __name__ == "__main__":
    run_actions({"gaps": gaps, "limits": limits}, __doc__, default=["gaps", "limits"])
