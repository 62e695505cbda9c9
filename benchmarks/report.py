"""How large the page of a model is, and how long a browser needs to open it.

    python benchmarks/report.py EMBEDDINGS.npy TEXTS.txt [--clusters 60 1000 10000] [--dry]

Needs chromium, chromedriver and selenium. Opened is when the table can be read and sorted: the end of the page's
script. Prints and appends records to benchmarks/results/report.jsonl.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from common import keep, parser_of
from cosmeans import KMeans
from cosmeans.report import write_report

ROUNDS = 5


def opened(page: Path) -> list[float]:
    """Seconds from the navigation to the end of the script, of fresh browsers."""
    from selenium import webdriver

    seconds = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as user:
            options = webdriver.ChromeOptions()
            options.binary_location = shutil.which("chromium")
            for flag in ("headless", "no-sandbox", "disable-gpu", f"user-data-dir={user}"):
                options.add_argument(f"--{flag}")
            browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
            browser.get(page.resolve().as_uri())
            script = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
            seconds.append(browser.execute_script(script) / 1000)
            browser.quit()
    return seconds


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--clusters", type=int, nargs="+", default=[60, 1000, 10_000])
    arguments = parser.parse_args()
    rows = np.load(arguments.embeddings)
    texts = arguments.texts.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    for n_clusters in arguments.clusters:
        model = KMeans(n_clusters, epochs=5, random_state=0, verbose=0).fit(rows)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            page = write_report(model, rows, Path(folder) / "page.html", texts=texts)
            record = {"rows": len(rows), "rows of": arguments.embeddings.name, "clusters": n_clusters}
            record |= {"written s": round(time.perf_counter() - started, 2), "bytes": page.stat().st_size}
            record |= {"opened s": round(statistics.median(opened(page)), 3), "rounds": ROUNDS}
        print("  ".join(f"{name} {value}" for name, value in record.items()), flush=True)
        keep("report", record, arguments)


if __name__ == "__main__":
    main()
