"""The version, from the metadata of the installed package, and the number of the answer's definition."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cosmeans")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"

NUMERICS = 1
"""Raised with every heading "Numerics" of the changelog: equal fits by versions of one number have the same bits."""
