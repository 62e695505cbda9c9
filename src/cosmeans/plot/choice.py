"""A choice of K: what was measured for each, with its range over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cosmeans.plot.figures import BLUE, GREEN, VERMILION, FilePath, new_figure, tidy, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_HEADROOM = 1.08  # of the highest value, above an axis that starts at 0


class RunOfK(Protocol):
    """What is drawn of `runs.Run`."""

    @property
    def n_clusters(self) -> int: ...
    @property
    def silhouette(self) -> float: ...
    @property
    def similarity(self) -> float: ...


class PointOfK(RunOfK, Protocol):
    """What is drawn of `choose_k.Point`."""

    @property
    def stability(self) -> float | None: ...


def plot_choice(
    n_clusters: int, points: Sequence[PointOfK], runs: Sequence[RunOfK], path: FilePath | None = None
) -> Figure:
    """Silhouette, stability (of several seeds) and similarity of the best run of each K; the suggestion is marked.

    Bars are the range over the seeds. All axes start at 0, so that differences as small as those between seeds look
    small.
    """
    several = points[0].stability is not None
    bars = " (bars: range over the seeds)" if several else ""
    curves = [
        ("silhouette", BLUE, f"Silhouette of the best run{bars}"),
        ("stability", VERMILION, "Stability: adjusted Rand index between seeds"),
        ("similarity", GREEN, f"Mean cosine of the rows with their centroids{bars}"),
    ]
    if not several:
        del curves[1]
    figure = new_figure((8.0, 6.4), shown=path is None)
    panels = figure.subplots(len(curves), 1, sharex=True, height_ratios=(3, 2, 2)[: len(curves)])
    ks = np.array([point.n_clusters for point in points])
    for axes, (name, color, title) in zip(panels, curves, strict=True):
        values = np.array([getattr(point, name) for point in points])
        style: dict[str, Any] = {"color": color, "marker": "o", "markersize": 3.5, "linewidth": 1.6}
        axes.errorbar(ks, values, _range(name, points, runs), capsize=3, elinewidth=1.0, **style)
        _from_zero(axes, values)
        axes.axvline(n_clusters, color="black", linewidth=0.9, linestyle="--")
        axes.set_title(title, loc="left", fontsize=10)
        tidy(axes)
    left = bool(n_clusters**2 <= int(ks[0]) * int(ks[-1]))  # of the middle of the logarithmic axis
    panels[0].annotate(
        f"K = {n_clusters}",
        (n_clusters, 0.03),
        xycoords=panels[0].get_xaxis_transform(),
        xytext=(5 if left else -5, 0),
        textcoords="offset points",
        ha="left" if left else "right",
        fontsize=9,
    )
    panels[-1].set_xscale("log")
    panels[-1].set_xticks(ks, labels=_thinned(ks))
    panels[-1].minorticks_off()
    panels[-1].set_xlabel("number of clusters K")
    write(figure, path)
    return figure


def _range(name: str, points: Sequence[PointOfK], runs: Sequence[RunOfK]) -> np.ndarray | None:
    """How far the runs of each K reach below and above its point, (2, K); None for what single runs don't have."""
    if name == "stability":
        return None
    reach = []
    for point in points:
        of_k = [getattr(run, name) for run in runs if run.n_clusters == point.n_clusters]
        value = getattr(point, name)
        reach.append((value - min(of_k), max(of_k) - value))
    return np.maximum(0.0, np.array(reach).T)


def _from_zero(axes: Axes, values: np.ndarray) -> None:
    """An axis from 0, or from below where values are negative, to a little above the highest bar."""
    top = axes.get_ylim()[1]
    axes.set_ylim(min(0.0, axes.get_ylim()[0]) if values.min() < 0 else 0.0, max(top, _HEADROOM * values.max()))


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
