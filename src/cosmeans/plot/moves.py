"""What moved between two models: flows of rows between the clusters that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cosmeans.plot.figures import BLUE, GREEN, GREY, VERMILION, FilePath, new_figure, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIX = (BLUE, "#E69F00", GREEN, "#CC79A7", "#56B4E9", VERMILION)
_OTHERS, _REST = "#333333", "other clusters"
_GAP = 0.012  # between two bars, of the whole height
_BEND = np.linspace(0.0, 1.0, 50)


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
                color = GREY if i == j else colors[i]
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
    write(figure, path)
    return figure


def _told(moves: MovedRows, drawn: int) -> str:
    stayed = moves.stayed / moves.n_rows if moves.n_rows else 0.0
    told = f"{moves.stayed:,} of {moves.n_rows:,} rows stayed in their cluster ({stayed:.1%}, grey)."
    return (
        told if drawn == moves.n_rows else f"{told}\nShown are {drawn:,} rows, those of the clusters that changed most."
    )


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
