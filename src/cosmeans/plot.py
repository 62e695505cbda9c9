"""Pictures of a fit: how it converged and how large its clusters are. Needs matplotlib."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cosmeans.atomic import new_file
from cosmeans.caches import temporary_folder, writable
from cosmeans.errors import WriteError
from cosmeans.progress import in_notebook
from cosmeans.result import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008: told apart by colour-blind readers too
_BLUE, _VERMILION, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#6e6e6e"
_LOG_FROM = 20.0  # sizes that differ by this factor are drawn on a logarithmic axis


def plot_history(history: History | Sequence[float], ax: Axes | None = None) -> Axes:
    """Mean similarity of every epoch, from a History or from `KMeans.similarities`; on `ax`, or on a new figure."""
    axes = new_figure((6.4, 4.0), shown=True).subplots() if ax is None else ax
    values = history.similarities if isinstance(history, History) else list(history)
    _line(axes, values, _BLUE)
    axes.set_title("Mean cosine of the rows with their centroids", loc="left", fontsize=10)
    axes.set_ylabel("similarity")
    axes.set_xlabel("epoch")
    return axes


def plot_fit(history: History, counts: Any = None, path: str | os.PathLike[str] | None = None) -> Figure:
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
    if path is not None:
        with new_file(path, force=True) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    return figure


def new_figure(size: tuple[float, float], shown: bool) -> Figure:
    """A figure that pyplot shows where someone may call `show`; notebooks and files need no pyplot."""
    _keep_fonts()
    try:
        from matplotlib import pyplot
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib. Install it with: pip install "cosmeans[cli]".') from error
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
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)


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
