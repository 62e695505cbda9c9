"""Packages that come with an extra: before the work, what needs a missing one is refused, or left out and told."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from cosmeans.console import say
from cosmeans.errors import OptionError

_EXTRAS = {"matplotlib": "plot", "pyarrow": "tables", "jinja2": "report"}
_TABLES = (".parquet", ".csv")


def missing(package: str) -> bool:
    """Whether a package is not installed; nothing is imported for that."""
    return find_spec(package) is None


def require(package: str, what: str) -> None:
    """Raise OptionError unless the package is installed. what: needs it, as the message begins."""
    if missing(package):
        raise OptionError(f"{what} needs {package}, which is not installed. {_advice(package)}")


def require_for(path: Path) -> None:
    """Raise OptionError unless a table can be written as the suffix says."""
    if path.suffix in _TABLES:
        require("pyarrow", f"{path}: a table")


def left_out(files: dict[str, str]) -> list[str]:
    """Packages that are missing, each told with the file that is left out. files: name of a file by package."""
    found = [package for package in files if missing(package)]
    for package in found:
        say(f"Warning: {files[package]} is left out: {package} is not installed. {_advice(package)}")
    return found


def _advice(package: str) -> str:
    return f'Install it with: pip install "cosmeans[{_EXTRAS[package]}]"'
