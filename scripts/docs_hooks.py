"""What `mkdocs build` makes besides the pages that are written: the reference of the command line, from its help."""

from __future__ import annotations

import html
import re
from typing import Any

PAGE = "api/cli.md"


def on_files(files: Any, config: Any) -> Any:
    """Add the page of all commands and flags (mkdocs calls this)."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=reference()))
    return files


def reference() -> str:
    """All commands and flags, in Markdown."""
    from typer import Context
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from cosmeans.cli import app

    command: Any = get_command(app)
    made = get_docs_for_click(obj=command, ctx=Context(command), name="cosmeans", title="Every command and flag")
    made = re.sub(
        r"^# .*\n",
        "# Every command and flag\n\nWhat all commands share is said in [the command line](../commands.md).\n",
        html.unescape(made),
        count=1,
    )
    return made.replace(" <bool>", "")
