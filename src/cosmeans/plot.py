"""Plots of a fit, of a choice of K, and of what moved between two models. They need matplotlib.

What is drawn is described by Protocols, so that those who own it can import this module.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cosmeans.atomic import new_file
from cosmeans.caches import temporary_folder, writable
from cosmeans.errors import WriteError
from cosmeans.progress import in_notebook
from cosmeans.result import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FilePath = str | os.PathLike[str]
# Okabe & Ito 2008: told apart by colour-blind readers too
_BLUE, _VERMILION, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#6e6e6e"
_SIX = (_BLUE, "#E69F00", _GREEN, "#CC79A7", "#56B4E9", _VERMILION)
_LOG_FROM = 20.0  # sizes that differ by this factor are drawn on a logarithmic axis
_OTHERS, _REST = "#333333", "other clusters"
_GAP = 0.012  # between two bars, of the whole height
_BEND = np.linspace(0.0, 1.0, 50)


class PointOfK(Protocol):
    """What is drawn of `choose.Point`."""

    @property
    def n_clusters(self) -> int: ...
    @property
    def stability(self) -> float | None: ...


class ChangedCluster(Protocol):
    """What is drawn of `matching.Change`."""

    @property
    def id(self) -> int: ...
    @property
    def before(self) -> int: ...
    @property
    def after(self) -> int: ...
    @property
    def stayed(self) -> int: ...


class MovedRows(Protocol):
    """What is drawn of `matching.Moves`."""

    @property
    def n_rows(self) -> int: ...
    @property
    def stayed(self) -> int: ...
    @property
    def clusters(self) -> Sequence[ChangedCluster]: ...
    @property
    def flows(self) -> np.ndarray: ...


def plot_history(history: History | Sequence[float], ax: Axes | None = None) -> Axes:
    """Mean similarity of every epoch, from a History or from `KMeans.similarities`; on `ax`, or on a new figure."""
    axes = new_figure((6.4, 4.0), shown=True).subplots() if ax is None else ax
    values = history.similarities if isinstance(history, History) else list(history)
    _line(axes, values, _BLUE)
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
    _write(figure, path)
    return figure


def new_figure(size: tuple[float, float], shown: bool) -> Figure:
    """A figure that pyplot shows where someone may call `show`; notebooks and files need no pyplot."""
    _keep_fonts()
    try:
        from matplotlib import pyplot
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib. Install it with: pip install "cosmeans[plot]".') from error
    except OSError as error:
        raise WriteError(
            "matplotlib needs a writable folder for its font cache, and found none. Set "
            "MPLCONFIGDIR to a writable folder."
        ) from error
    style: dict[str, Any] = {"figsize": size, "layout": "constrained"}
    return pyplot.figure(**style) if shown and not in_notebook() else Figure(**style)


def _keep_fonts() -> None:
    """Where matplotlib can't write to its folder, it reads all fonts in each process: it may use one of ours then."""
    if "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ:
        return
    users = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    own = Path(users, "matplotlib") if sys.platform.startswith("linux") else Path("~/.matplotlib").expanduser()
    ours = None if own.is_absolute() and writable(own) else temporary_folder()
    if ours is not None and writable(ours / "matplotlib"):
        os.environ["MPLCONFIGDIR"] = str(ours / "matplotlib")


def _line(axes: Axes, values: Sequence[float], color: str) -> None:
    from matplotlib.ticker import MaxNLocator

    marker = "o" if len(values) <= 40 else None
    axes.plot(range(1, len(values) + 1), values, color=color, marker=marker, markersize=3.5, linewidth=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _tidy(axes)


def _changed(axes: Axes, history: History, counts: Any) -> None:
    changed = [iteration.changed for iteration in history]
    n_rows = int(np.sum(np.asarray(counts))) if counts is not None else max(changed, default=0)
    shares = [100.0 * count / n_rows if count and n_rows else float("nan") for count in changed]
    _line(axes, shares, _VERMILION)
    if np.isfinite(shares).any():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g} %")
    axes.set_title("Rows that changed cluster", loc="left", fontsize=10)


def _imbalance(axes: Axes, history: History) -> None:
    _line(axes, [iteration.imbalance for iteration in history], _GREEN)
    axes.set_title("Imbalance of sizes (1: all equal)", loc="left", fontsize=10)
    axes.set_xlabel("epoch")


def _sizes(axes: Axes, counts: np.ndarray) -> None:
    ordered = np.sort(counts)[::-1]
    _line(axes, [], _GREY)
    axes.fill_between(np.arange(len(ordered) + 1), [*ordered, ordered[-1]], step="post", color=_GREY, alpha=0.55, lw=0)
    axes.axhline(ordered.mean(), color="black", linewidth=0.8, linestyle="--")
    axes.set_xlim(0, len(ordered))
    if ordered[-1] > 0 and ordered[0] > _LOG_FROM * ordered[-1]:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title("Rows per cluster, largest first (dashed: mean)", loc="left", fontsize=10)
    axes.set_xlabel("cluster")


def plot_choice(
    n_clusters: int, points: Sequence[PointOfK], runs: Sequence[tuple[int, float]], path: FilePath | None = None
) -> Figure:
    """Silhouette with its spread over the seeds, stability (of several seeds) and similarity over K.

    The suggestion is marked. runs: K and silhouette of each.
    """
    curves = [
        ("silhouette", _BLUE, "Silhouette of the best run (points: every seed)"),
        ("stability", _VERMILION, "Stability: adjusted Rand between seeds"),
        ("similarity", _GREEN, "Mean cosine of rows with their centroids"),
    ]
    if points[0].stability is None:
        del curves[1]
    figure = new_figure((8.0, 6.4), shown=path is None)
    panels = figure.subplots(len(curves), 1, sharex=True, height_ratios=(3, 2, 2)[: len(curves)])
    ks = np.array([point.n_clusters for point in points])
    for axes, (name, color, title) in zip(panels, curves, strict=True):
        values = [getattr(point, name) for point in points]
        axes.plot(ks, values, color=color, marker="o", markersize=3.5, linewidth=1.6)
        axes.axvline(n_clusters, color="black", linewidth=0.9, linestyle="--")
        axes.set_title(title, loc="left", fontsize=10)
        _tidy(axes)
    panels[0].scatter(*zip(*runs, strict=True), s=7, color=_BLUE, alpha=0.35, linewidths=0)
    panels[0].annotate(
        f"K = {n_clusters}",
        (n_clusters, 0.03),
        xycoords=panels[0].get_xaxis_transform(),
        xytext=(5, 0),
        textcoords="offset points",
        fontsize=9,
    )
    panels[-1].set_xscale("log")
    panels[-1].set_xticks(ks, labels=_thinned(ks))
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("number of clusters K")
    _write(figure, path)
    return figure


def plot_moves(moves: MovedRows, path: FilePath | None = None, n_clusters: int = 12) -> Figure:
    """Rows of the clusters that changed most, before (left) and after (right), and the flows between them.

    Rows that stayed are grey, rows that moved have the colour of the cluster they left. All other clusters are one
    bar, of which only the rows are drawn that came from or went to the clusters shown.
    """
    figure = new_figure((8.0, 7.0), shown=path is None)
    axes = figure.subplots()
    flows, names = condensed(moves, n_clusters)
    left, right = flows.sum(axis=1), flows.sum(axis=0)
    total = max(1, int(flows.sum()))
    bottoms = [_stacked(sizes / total) for sizes in (left, right)]
    colors = [_OTHERS if name == _REST else _SIX[i % len(_SIX)] for i, name in enumerate(names)]
    used_left, used_right = bottoms[0].copy(), bottoms[1].copy()
    # bars fill from below, so the lowest go first: fewer bands cross
    for i in reversed(range(len(names))):
        for j in reversed(range(len(names))):
            share = flows[i, j] / total
            if share:
                color = _GREY if i == j else colors[i]
                _band(axes, used_left[i], used_right[j], share, color, 0.25 if i == j else 0.75)
                used_left[i] += share
                used_right[j] += share
    for x, sizes, bottom, model in ((0.0, left, bottoms[0], "old model"), (1.0, right, bottoms[1], "new model")):
        outwards, align = (-1, "right") if x == 0.0 else (1, "left")
        axes.bar([x] * len(names), sizes / total, width=0.03, bottom=bottom, color=colors)
        axes.text(x + 0.015 * outwards, 1.01, model, ha=align, va="bottom", fontsize=9, fontweight="bold")
        for name, size, start in zip(names, sizes, bottom, strict=True):
            if size:
                place = (x + 0.03 * outwards, start + size / total / 2)
                axes.text(*place, f"{name}: {size:,}", ha=align, va="center", fontsize=8)
    axes.set_title(_told(moves, int(flows.sum())), loc="left", fontsize=10)
    axes.set_xlim(-0.34, 1.34)
    axes.axis("off")
    _write(figure, path)
    return figure


def _told(moves: MovedRows, drawn: int) -> str:
    stayed = moves.stayed / moves.n_rows if moves.n_rows else 0.0
    told = f"{moves.stayed:,} of {moves.n_rows:,} rows stayed in their cluster ({stayed:.1%}, grey)."
    return told if drawn == moves.n_rows else f"{told}\nDrawn are the {drawn:,} of the clusters that changed most."


def condensed(moves: MovedRows, n_clusters: int) -> tuple[np.ndarray, list[str]]:
    """Rows from (i) to (j), the n clusters with most moved rows, largest first, and all others as one; with names.

    Of the others only rows that came from or went to the n are counted.
    """
    by_moves = sorted(moves.clusters, key=lambda change: (2 * change.stayed - change.before - change.after, change.id))
    shown = sorted(by_moves[:n_clusters], key=lambda change: (-max(change.before, change.after), change.id))
    place = {change.id: rank for rank, change in enumerate(shown)}
    rest = len(place)
    flows = np.zeros((rest + 1, rest + 1), np.int64)
    for change in shown:
        flows[place[change.id], place[change.id]] = change.stayed
    for source, target, rows in moves.flows.tolist():
        flows[place.get(source, rest), place.get(target, rest)] += rows
    flows[rest, rest] = 0
    names = [f"cluster {change.id}" for change in shown]
    if len(moves.clusters) > rest:
        return flows, [*names, _REST]
    return flows[:-1, :-1], names


def _stacked(shares: np.ndarray) -> np.ndarray:
    """Where each bar begins: the first on top, with gaps."""
    return 1.0 - np.cumsum(shares + _GAP)


def _band(axes: Axes, left: float, right: float, share: float, color: Any, alpha: float) -> None:
    way = 3 * _BEND**2 - 2 * _BEND**3
    low = left + (right - left) * way
    axes.fill_between(0.015 + 0.97 * _BEND, low, low + share, color=color, alpha=alpha, linewidth=0)


def _thinned(ks: np.ndarray) -> list[str]:
    """Names of the ticks that don't run into one another."""
    names: list[str] = []
    last = 0.0
    span = np.log(ks[-1] / ks[0]) or 1.0
    for k in ks:
        far = not last or np.log(k / last) / span > 0.035
        names.append(str(k) if far else "")
        last = float(k) if far else last
    return names


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)


def _write(figure: Figure, path: FilePath | None) -> None:
    """Write a PNG, whole or not at all; an older one is replaced."""
    if path is not None:
        with new_file(path, force=True) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
