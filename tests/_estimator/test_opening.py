"""Who watches a call is told of its end, however it ends."""

import re

import numpy as np
import pytest

from cosmeans import KMeans, choose_k, deduplicate, evaluate, exemplars, moved, outliers, reorder, top
from cosmeans.progress import Silent, set_observer
from generators import normal

X = normal(90, 6)
CALLS = {
    "fit": lambda m: m.fit(X),
    "fit, more than once": lambda m: m.set_params(n_init=2).fit(X),
    "fit, k-means++": lambda m: m.set_params(init="k-means++").fit(X),
    "fit, nested": lambda m: m.set_params(init="nested").fit(X),
    "fit_predict": lambda m: m.fit_predict(X),
    "fit_transform": lambda m: m.fit_transform(X),
    "predict": lambda m: m.predict(X),
    "transform": lambda m: m.transform(X),
    "score": lambda m: m.score(X),
    "report": lambda m: m.report(X, "page.html", force=True),
    "evaluate": lambda m: evaluate(m, X),
    "top": lambda m: top(m, X),
    "outliers": lambda m: outliers(m, X),
    "exemplars": lambda m: exemplars(m, X),
    "deduplicate": lambda m: deduplicate(m, X),
    "moved": lambda m: moved(m, m, X),
    "reorder": lambda m: reorder(m, rows=X),
}


class OutOfOrderError(Exception):
    """What a display raises that broke in the middle of a call."""


class Breaks(Silent):
    """Raises at one of the things that it is told; counts how often it begins and is closed."""

    def __init__(self, at):
        super().__init__()
        self.at, self.told, self.begun, self.closed = at, 0, 0, 0

    def __enter__(self):
        self.begun += 1
        return super().__enter__()

    def close(self):
        self.closed += 1

    def tell(self, *_):
        self.told += 1
        if self.told == self.at:
            raise OutOfOrderError

    run = seeding = reading = epoch = batch = iteration = step = tell


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", CALLS)
def test_whoever_watches_is_closed_when_a_call_breaks_off(name, backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = KMeans(4, epochs=2, random_state=0, verbose=0, backend=backend, batch_size=40).fit(X)
    whole, broken = Breaks(0), 0
    set_observer(start, whole)
    CALLS[name](start)
    assert whole.told > 0
    for at in range(1, whole.told + 1):
        model = KMeans(4, epochs=2, random_state=0, verbose=0, backend=backend, batch_size=40).fit(X)
        set_observer(model, observer := Breaks(at))
        with pytest.raises(OutOfOrderError):
            CALLS[name](model)

        assert observer.closed == observer.begun > 0
        broken += 1
    assert broken == whole.told


class Terminal:
    """What was written, as on a terminal of many columns."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text


@pytest.mark.parametrize("name", ["deduplicate", "choose_k"])
def test_the_bar_of_a_call_that_breaks_off_is_closed(name, time_flies, monkeypatch):
    def breaks(*_, **__):
        raise MemoryError

    model = KMeans(4, random_state=0, verbose=0).fit(X).set_params(verbose=1)
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(np, "lexsort", breaks)
    monkeypatch.setattr(KMeans, "fit", breaks)
    with pytest.raises(MemoryError) as caught:
        deduplicate(model, X) if name == "deduplicate" else choose_k(X, [3], verbose=1)

    # the state at the end is shown once more; the error holds the bar, which nothing else closes
    assert len(re.findall(r"\| (0 of|fit 1 of) ", terminal.text)) > 1, caught
    assert terminal.text.endswith("\n")
