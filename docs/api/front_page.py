"""MkDocs hook: the README is the front page; no link leaves the built pages for the checkout."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put the README in the place of index.md; make links to files outside `docs` plain text."""
    home = ROOT / "docs"
    here = (home / page.file.src_uri).parent
    if page.file.src_uri == "index.md":
        markdown = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")

    def link(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        file, _, part = target.partition("#")
        if re.match(r"[a-z]+:", target) or not file:
            return match[0]
        if (here / file).resolve() == ROOT / "README.md":
            return f"[{text}](index.md#{part})" if part else f"[{text}](index.md)"
        inside = (here / file).resolve().is_relative_to(home) and (here / file).is_file()
        return match[0] if inside else text

    parts = FENCE.split(markdown)
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))
