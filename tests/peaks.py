"""How much anonymous memory a piece of work takes, measured in a child that does nothing else."""

import os
import subprocess
import sys

# glibc keeps what was freed, and more of it from call to call: an arena for each thread that met another one, and
# blocks of up to 32 MiB once such a block was freed. With fixed limits freed memory goes back at once, so that the peak
# is what the call holds, whatever else the machine does.
GIVEN_BACK = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}
# peak_of(work): bytes on top of what there was before, and what work() returned
PEAK = """
import threading, time


def anonymous():
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def peak_of(work):
    before, peak, done = anonymous(), [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], anonymous())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = work()
    done.set()
    watcher.join()
    return peak[0] - before, result
"""


def told_by(code, *arguments, cwd=None):
    """What a child tells on its stdout that runs this code after PEAK."""
    child = [sys.executable, "-c", PEAK + code, *arguments]
    return subprocess.run(
        child, check=True, capture_output=True, text=True, cwd=cwd, env=os.environ | GIVEN_BACK
    ).stdout
