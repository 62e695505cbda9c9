"""The version, from the metadata of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cosmeans")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+source"
