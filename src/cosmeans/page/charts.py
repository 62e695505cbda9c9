"""Small charts as plain numbers, which the template draws as SVG in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cosmeans.result import History

WIDTH, HEIGHT = 360, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 24
_DOTS_UP_TO = 60  # more epochs are a line without dots
_LOG_FROM = 20.0  # values that differ by this factor are drawn on a logarithmic axis
_BINS = 48
_RULE_WORDS = 84  # width of the words at a rule


@dataclass(frozen=True, slots=True)
class Chart:
    """title and note for readers; marks in the coordinates of a WIDTH x HEIGHT box.

    path    the line, or the outline of what is filled
    dots    (x, y, what to say there)
    x_ticks, y_ticks  (where, what)
    rule    (x, what it parts, the end of the words that stands at the line): a vertical line
    """

    key: str
    title: str
    note: str
    path: str
    filled: bool
    dots: list[tuple[float, float, str]]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    rule: tuple[float, str, str] | None = None


def convergence(history: History, n_rows: int) -> list[Chart]:
    """Similarity and rows that changed, over the epochs."""
    similarity = history.similarities
    changed = [100.0 * (iteration.changed or 0) / max(1, n_rows) for iteration in history]  # a gap where none is known
    known = history[-1].changed is not None
    return [
        _epochs(
            "similarity",
            "Mean similarity",
            f"{similarity[0]:.4f} → {similarity[-1]:.4f}",
            similarity,
            lambda value: f"{value:.4f}",
        ),
        _epochs(
            "changed",
            "Rows that changed cluster",
            f"{percent(changed[-1])} in the last epoch" if known else "not known of the last epoch",
            changed,
            percent,
            log=True,
        ),
    ]


def sizes(size: np.ndarray) -> Chart:
    """Rows per cluster, largest first."""
    ordered = np.sort(size)[::-1].astype(float)
    log = ordered[-1] > 0 and ordered[0] > _LOG_FROM * ordered[-1]
    y, y_ticks = _scale(ordered, (HEIGHT - BOTTOM, TOP), lambda value: f"{value:,.0f}", log=log, from_zero=not log)
    step = (WIDTH - LEFT - RIGHT) / len(ordered)
    # many clusters share a pixel: the outline needs no more points than there are pixels
    picked = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), WIDTH)).astype(int))
    points = [(LEFT + index * step, y(ordered[index])) for index in picked]
    parts = [f"M{LEFT} {HEIGHT - BOTTOM}"] + [f"L{a:.1f} {b:.1f}H{a + step:.1f}" for a, b in points]
    path = " ".join(parts) + f"L{WIDTH - RIGHT} {points[-1][1]:.1f}V{HEIGHT - BOTTOM}Z"
    note = f"{ordered[-1]:,.0f} to {ordered[0]:,.0f}, median {np.median(ordered):,.0f}"
    x_ticks = (
        [(float(LEFT), "1"), (WIDTH - RIGHT - step / 2, f"{len(ordered):,}")]
        if len(ordered) > 1
        else [(float(LEFT), "1")]
    )
    return Chart(
        "sizes", "Rows per cluster, largest first", note, path, filled=True, dots=[], x_ticks=x_ticks, y_ticks=y_ticks
    )


def histogram(similarity: np.ndarray, odd_below: float) -> Chart:
    """How many rows have which similarity with their centroid."""
    low, high = float(similarity.min()), float(similarity.max())
    counts, edges = np.histogram(similarity, _BINS, (low, high if high > low else low + 1e-3))
    y, y_ticks = _scale(counts.astype(float), (HEIGHT - BOTTOM, TOP), lambda value: f"{value:,.0f}", from_zero=True)
    x, x_ticks = _scale(edges, (LEFT, WIDTH - RIGHT), lambda value: f"{value:.2f}")
    floor = HEIGHT - BOTTOM
    bars = [
        f"M{x(a) + 0.3:.1f} {floor}V{y(count):.1f}H{x(b) - 0.3:.1f}V{floor}Z"
        for a, b, count in zip(edges[:-1], edges[1:], counts, strict=True)
        if count
    ]
    note = f"mean {similarity.mean():.3f}, median {np.median(similarity):.3f}"
    at = x(odd_below)
    # words to the left of the line, unless they would run into the axis
    side = "end" if at - LEFT > _RULE_WORDS else "start"
    rule = (at, f"{odd_below:.2f}", side) if low < odd_below < high else None
    return Chart(
        "histogram",
        "Similarity of the rows with their centroids",
        note,
        " ".join(bars),
        filled=True,
        dots=[],
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        rule=rule,
    )


def _epochs(
    key: str,
    title: str,
    note: str,
    values: Sequence[float],
    say: Callable[[float], str],
    *,
    log: bool = False,
) -> Chart:
    shown = np.asarray([value if value > 0 or not log else np.nan for value in values], dtype=float)
    finite = shown[np.isfinite(shown)]
    from_zero = log
    log = log and len(finite) > 0 and finite.max() > _LOG_FROM * finite.min()
    y, y_ticks = _scale(finite, (HEIGHT - BOTTOM, TOP), say, log=log, from_zero=from_zero and not log)
    span = max(1, len(shown) - 1)
    points = [(LEFT + 4 + (WIDTH - LEFT - RIGHT - 8) * index / span, value) for index, value in enumerate(shown)]
    marks = [
        (a, y(value), f"epoch {index}: {say(value)}") for index, (a, value) in enumerate(points, 1) if value == value
    ]
    path = "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b, _ in marks) if len(marks) > 1 else ""
    epochs = sorted({1, *(int(tick) for tick in ticks_of(1, len(shown)) if 1 <= tick == int(tick) <= len(shown))})
    x_ticks = [(points[epoch - 1][0], str(epoch)) for epoch in epochs]
    dots = marks if len(marks) <= _DOTS_UP_TO else []
    return Chart(key, title, note, path, filled=False, dots=dots, x_ticks=x_ticks, y_ticks=y_ticks)


def percent(value: float) -> str:
    """Hundredths as people say them."""
    # a no-break space: figure and sign stay on one line
    return f"{value:.0f}\N{NO-BREAK SPACE}%" if value >= 10 else f"{value:.2g}\N{NO-BREAK SPACE}%"


def _scale(
    values: np.ndarray,
    ends: tuple[float, float],
    say: Callable[[float], str],
    *,
    log: bool = False,
    from_zero: bool = False,
) -> tuple[Callable[[float], float], list[tuple[float, str]]]:
    """A function from values to coordinates between `ends`, and its ticks."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low = 0.0 if from_zero else low
    if high <= low:
        low, high = (low, low + 1.0) if from_zero else (low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0))
    if log:
        low, high = math.log10(low), math.log10(high)

    def place(value: float) -> float:
        position = math.log10(max(value, 1e-300)) if log else value
        return ends[0] + (ends[1] - ends[0]) * (position - low) / (high - low)

    ticks = _log_ticks(low, high) if log else [tick for tick in ticks_of(low, high) if low <= tick <= high]
    return place, [(place(tick), say(tick)) for tick in ticks]


def ticks_of(low: float, high: float) -> list[float]:
    """Two to six round numbers from low to high."""
    rough = max(high - low, 1e-12) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = [10.0**exponent for exponent in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    if len(powers) > 1:
        return powers[:: max(1, math.ceil(len(powers) / 5))]
    base = 10.0 ** math.floor(low)
    return [base * factor for factor in (1, 2, 5, 10, 20, 50) if low <= math.log10(base * factor) <= high]
