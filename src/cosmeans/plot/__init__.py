"""Plots of a fit, of a choice of K, and of what moved between two models. They need matplotlib.

What is drawn is described by Protocols, so that those who own it can import these modules.
"""

from cosmeans.plot.choice import plot_choice
from cosmeans.plot.fit import plot_fit, plot_history
from cosmeans.plot.moves import plot_moves

__all__ = ["plot_choice", "plot_fit", "plot_history", "plot_moves"]
