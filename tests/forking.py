"""Run as a program: children of a fork fit and predict while threads of their parent fit. Prints what went wrong.

python forking.py CHILDREN: waits two minutes at most for each.
python forking.py METHOD: the same work in a pool of multiprocessing or joblib.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time

import numpy as np
import torch

from cosmeans import KMeans, evaluate, top

PATIENCE = 120.0
rows = np.random.default_rng(0).standard_normal((2000, 32)).astype(np.float32)


def fitted(**options):
    return KMeans(8, epochs=5, random_state=0, verbose=0, **options).fit(rows)


def digest(model):
    parts = (model.cluster_centers_, model.labels_, model.predict(rows[:1]), top(model, rows, 2).cosines)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def work(model, right, kinds):
    """What a child does: everything that compiles, multiplies, or waits for threads. 0: as in the parent."""
    found = [digest(model), *(digest(fitted(**kind)) for kind in kinds)]
    evaluate(model, rows)
    return int(set(found) != {right} or torch.get_num_threads() != 2)


def forked(job):
    """Start job() in a child of a fork; its number."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            code = job()
        finally:
            os._exit(code)
    return child


def ended(child):
    """The exit code of a child; 99 if it hung."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 99


def in_a_pool(method):
    model = fitted()
    right = digest(model)
    if method == "loky":
        from joblib import Parallel, delayed

        codes = Parallel(2, timeout=PATIENCE)(delayed(digest)(model) for _ in range(4))
    else:
        with multiprocessing.get_context(method).Pool(2) as pool:
            codes = pool.map_async(digest, [model] * 4).get(PATIENCE)
    sys.stdout.write(("all right" if set(codes) == {right} else str(codes)) + "\n")


def main(n_children):
    torch.set_num_threads(2)
    torch.ones(600, 600) @ torch.ones(600, 600)  # torch's own threads are there before
    model = fitted()
    right = digest(model)
    kinds = [{}] if n_children < 10 else [{}, {"strategy": "int8"}, {"strategy": "pca"}]
    stop = threading.Event()

    def fit_on():
        while not stop.is_set():
            fitted()

    threads = [threading.Thread(target=fit_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(n_children):
            if number % 2:
                codes = [ended(forked(lambda: work(model, right, kinds)))]
            else:  # a child of a child, which worked or did not
                worked = forked(lambda: work(model, right, kinds) or ended(forked(lambda: work(model, right, []))))
                codes = [ended(worked), ended(forked(lambda: ended(forked(lambda: work(model, right, [])))))]
            if any(codes):
                sys.stdout.write(f"child {number}: {codes}\n")
                return
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    sys.stdout.write("all right\n" if digest(fitted()) == right else "the parent is another one\n")


if __name__ == "__main__":
    main(int(sys.argv[1])) if sys.argv[1].isdigit() else in_a_pool(sys.argv[1])
