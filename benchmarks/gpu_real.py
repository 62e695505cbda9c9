"""Real embeddings on the GPU: python benchmarks/gpu_real.py [--embeddings FILE.npy] screens fits ...

A million rows are grown from a sample (`grown_rows`), since no such file fits into a repository. Without --embeddings
the sample is the one of `cosmeans demo`. Records are appended to benchmarks/results/gpu.jsonl.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import gpu_common
from common import DEMO
from gpu_common import DEVICE, burst, fit, flash_fit, gpu, record, run_actions, screening, torch_loop, wall

NEIGHBOURS = 8
N = 1 << 20


def sample_file() -> Path:
    return DEMO if gpu_common.OPTIONS is None else gpu_common.OPTIONS.embeddings


def grown_rows(n: int, copies: int = 1, seed: int = 0) -> Tensor:
    """(n, copies * D) unit rows: points between a row of the sample and one of its 8 nearest others.

    Each half, third, ... of a row starts from the same row of the sample and goes up to half of the way to a
    neighbour of its own: rows keep the directions, the density and the neighbourhoods of the sample.
    """
    sample = torch.from_numpy(np.load(sample_file())).to(DEVICE).float()
    sample = torch.nn.functional.normalize(sample)
    near = torch.cat([(part @ sample.T).topk(NEIGHBOURS + 1).indices[:, 1:] for part in sample.split(8192)])
    generator = torch.Generator(DEVICE).manual_seed(seed)
    own = torch.randint(len(sample), (n,), device=DEVICE, generator=generator)
    blocks = []
    for _ in range(copies):
        which = torch.randint(NEIGHBOURS, (n,), device=DEVICE, generator=generator)
        step = 0.5 * torch.rand(n, 1, device=DEVICE, generator=generator)
        blocks.append(torch.nn.functional.normalize(torch.lerp(sample[own], sample[near[own, which]], step)))
    return torch.nn.functional.normalize(torch.cat(blocks, dim=1))


def screens() -> None:
    """float16 against the ladder: rows without proof, the screen alone, and with settling; after 1, 3 and 10 epochs."""
    for n, copies, k in ((0, 1, 1000), (N, 1, 1000), (N, 2, 1000), (N, 2, 256), (N // 4, 2, 16384), (N, 4, 1000)):
        x = grown_rows(n, copies) if n else torch.from_numpy(np.load(sample_file())).to(DEVICE).float()
        first = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))[:k].to(DEVICE)]
        for epochs in (1, 3, 10):
            result = fit(x, first, gpu(), epochs, empty_clusters="keep")
            with screening(x, result.centroids) as half, screening(x, result.centroids, integers=True) as ladder:
                runs, facts = {}, {}
                for name, screened in (("half", half), ("ladder", ladder)):
                    screened.screen()
                    facts[name] = {
                        f"{listed}, {what}": count / len(x)
                        for listed, counts in screened.listed().items()
                        for what, count in zip(("again", "pairs"), counts, strict=True)
                    }
                    runs |= {f"{name} screen": screened.screen, f"{name} assign": screened.assign}
                times = burst(runs, 5, 3, 0.1)
            changed = [i.changed / len(x) for i in result.history][-1]
            facts |= {"changed": changed, "similarity": result.history.similarities[-1]}
            record("real screens", n=len(x), d=x.shape[1], k=k, epochs=epochs, **facts, **times)
            del runs, half, ladder, screened


def fits(epochs: int = 10) -> None:
    """Whole fits in float16, on the ladder, and as the backend chooses; peers where they need no long tuning."""
    shapes = ((N, 1, 1000), (N, 2, 1000), (N, 4, 1000), (N, 2, 4096), (N // 4, 2, 16384), (N // 4, 2, 65536))
    for n, copies, k in shapes:
        x = grown_rows(n, copies)
        first = x[torch.randperm(n, generator=torch.Generator().manual_seed(1))[:k].to(DEVICE)]
        times, labels = {}, []
        for name, integers in (("half", False), ("ladder", True), ("auto", None)):
            run = lambda i=integers, x=x, f=first: fit(x, f, gpu(integers=i), epochs, empty_clusters="keep")  # noqa: E731
            result = run()
            labels.append(result.labels)
            times[name] = wall(run, 3)
        if x.shape[1] <= 384:
            rows, start = x.half(), first.half()
            theirs = lambda r=rows, s=start: flash_fit(r, s, epochs)  # noqa: E731
            theirs()
            times["flash, float16"] = wall(theirs, 3)
            ours = lambda r=rows, f=first: fit(r, f, gpu(), epochs, empty_clusters="keep")  # noqa: E731
            ours()
            times["auto, float16"] = wall(ours, 3)
        loop = lambda x=x, f=first: torch_loop(x.half(), f.half(), epochs)  # noqa: E731
        loop()
        times["loop, float16"] = wall(loop, 1)
        times["rows"] = [(i.changed / n, c.settled / n) for i, c in zip(result.history, result.costs, strict=True)]
        times["same"] = all(torch.equal(labels[0], found) for found in labels)
        record("real fit", n=n, d=x.shape[1], k=k, epochs=epochs, **times)


ACTIONS = {"screens": screens, "fits": fits}

if __name__ == "__main__":
    run_actions(ACTIONS, __doc__, embeddings=DEMO)  # unit rows to grow from, .npy
