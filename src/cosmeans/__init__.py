"""Spherical k-means for embeddings: one exact answer on every machine, fast."""

from importlib.metadata import version

__version__ = version("cosmeans")
