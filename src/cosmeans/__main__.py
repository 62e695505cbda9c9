"""The command `cosmeans`, also as `python -m cosmeans`."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = ("typer", "rich", "pyarrow", "matplotlib", "jinja2")


def main() -> None:
    """Run the command line, or say what to install for it. Ends the process with 0, 1 or 2."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f'The command line needs {", ".join(missing)}. Install what is missing with: pip install "cosmeans[cli]"\n'
        )
        sys.exit(2)
    from cosmeans.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
