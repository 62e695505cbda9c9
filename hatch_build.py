"""The long description that package indexes show: README.md, with links that lead somewhere from there.

Links in README are relative. Once `[project.urls]` has a `Repository`, they lead to the files of the release's tag
there, as GitHub and GitLab serve them; until then they are left as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|mailto:|#)([^)\s]+)")


def absolute_links(text: str, repository: str, version: str) -> str:
    """Markdown with links and pictures of the repository in place of relative ones; code blocks stay."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1].startswith("!") else "blob"
        return f"{link[1]}{repository.rstrip('/')}/{kind}/v{version}/{link[2]}"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else _LINK.sub(absolute, part) for part in parts)


class ReadmeHook(MetadataHookInterface):
    """Fills in `readme`, which is declared as dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        if repository is not None:
            text = absolute_links(text, repository, metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
