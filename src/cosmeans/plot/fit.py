"""A fit, epoch by epoch: similarity, rows that changed, imbalance and the sizes of its clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cosmeans.plot.figures import BLUE, GREEN, GREY, VERMILION, FilePath, new_figure, tidy, write
from cosmeans.result import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG_FROM = 20.0  # sizes that differ by this factor are drawn on a logarithmic axis


def plot_history(history: History | Sequence[float], ax: Axes | None = None) -> Axes:
    """Mean similarity of every epoch, from a History or from `KMeans.similarities`; on `ax`, or on a new figure."""
    axes = new_figure((6.4, 4.0), shown=True).subplots() if ax is None else ax
    values = history.similarities if isinstance(history, History) else list(history)
    _line(axes, values, BLUE)
    axes.set_title("Mean cosine of the rows with their centroids", loc="left", fontsize=10)
    axes.set_ylabel("similarity")
    axes.set_xlabel("epoch")
    return axes


def plot_fit(history: History, counts: Any = None, path: FilePath | None = None) -> Figure:
    """A figure with similarity, rows that changed, imbalance and, with `counts` (K,), the cluster sizes.

    With `path` it is also written there as PNG, whole or not at all; an older picture is replaced.
    """
    figure = new_figure((10.0, 5.6), shown=path is None)
    n_panels = 2 if counts is None else 3
    grid = figure.add_gridspec(n_panels, 2, width_ratios=(3, 2))
    left = figure.add_subplot(grid[:, 0])
    small = [figure.add_subplot(grid[row, 1], sharex=left if row < 2 else None) for row in range(n_panels)]
    plot_history(history, left)
    _changed(small[0], history, counts)
    _imbalance(small[1], history)
    if counts is not None:
        _sizes(small[2], np.asarray(counts))
    write(figure, path)
    return figure


def _line(axes: Axes, values: Sequence[float], color: str) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(values) <= 40 else None
    axes.plot(range(1, len(values) + 1), values, color=color, marker=marker, markersize=3.5, linewidth=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes)


def _changed(axes: Axes, history: History, counts: Any) -> None:
    changed = [iteration.changed for iteration in history]
    n_rows = int(np.sum(np.asarray(counts))) if counts is not None else max(filter(None, changed), default=0)
    shares = [100.0 * count / n_rows if count and n_rows else float("nan") for count in changed]
    _line(axes, shares, VERMILION)
    if np.isfinite(shares).any():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g} %")
    axes.set_title("Rows that changed cluster", loc="left", fontsize=10)


def _imbalance(axes: Axes, history: History) -> None:
    _line(axes, [iteration.imbalance for iteration in history], GREEN)
    axes.set_title("Imbalance of sizes (1: all equal)", loc="left", fontsize=10)
    axes.set_xlabel("epoch")


def _sizes(axes: Axes, counts: np.ndarray) -> None:
    ordered = np.sort(counts)[::-1]
    _line(axes, [], GREY)
    axes.fill_between(np.arange(len(ordered) + 1), [*ordered, ordered[-1]], step="post", color=GREY, alpha=0.55, lw=0)
    axes.axhline(ordered.mean(), color="black", linewidth=0.8, linestyle="--")
    axes.set_xlim(0, len(ordered))
    if ordered[-1] > 0 and ordered[0] > _LOG_FROM * ordered[-1]:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title("Rows per cluster, largest first (dashed: mean)", loc="left", fontsize=10)
    axes.set_xlabel("cluster")
