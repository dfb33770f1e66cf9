"""Files that a page of the documentation shows: blocks whose first line names their path."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"

_BLOCK = re.compile(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def write_files_of(page: str, folder: Path) -> list[str]:
    """Write the files of `docs/PAGE` below a folder; returns their paths."""
    found = _BLOCK.findall((DOCS / page).read_text())
    for path, content in found:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    return [path for path, _ in found]
