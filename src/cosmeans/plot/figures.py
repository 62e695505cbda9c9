"""What every plot begins and ends with: a figure that is shown where it is made, colours, tidy axes, a file."""

from __future__ import annotations

import os
import sys
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmeans.atomic import new_file
from cosmeans.caches import temporary_folder, writable
from cosmeans.errors import WriteError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FilePath = str | os.PathLike[str]
# Okabe & Ito 2008: told apart by colour-blind readers too
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6e6e6e"


def new_figure(size: tuple[float, float], shown: bool) -> Figure:
    """A figure for `pyplot.show` if it is to be shown. Notebooks show what a cell returns, and files need no pyplot."""
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
    if shown and not _in_kernel():
        return pyplot.figure(**style)
    figure = Figure(**style)
    # pyplot's figures are drawn at the end of a cell, and again as its result; IPython knows no others without this
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _in_kernel() -> bool:
    """Whether a notebook's kernel runs this: it displays what a cell returns."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _png(figure: Figure) -> bytes:
    contents = BytesIO()
    figure.savefig(contents, format="png")
    return contents.getvalue()


def _keep_fonts() -> None:
    """Where matplotlib can't write to its folder, it reads all fonts in each process: it may use one of ours then."""
    if "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ:
        return
    users = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    own = Path(users, "matplotlib") if sys.platform.startswith("linux") else Path("~/.matplotlib").expanduser()
    ours = None if own.is_absolute() and writable(own) else temporary_folder()
    if ours is not None and writable(ours / "matplotlib"):
        os.environ["MPLCONFIGDIR"] = str(ours / "matplotlib")


def tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.set_axisbelow(True)


def write(figure: Figure, path: FilePath | None) -> None:
    """Write a PNG, whole or not at all; an older one is replaced."""
    if path is not None:
        with new_file(path, force=True) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
