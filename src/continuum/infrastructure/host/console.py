"""What a machine has said on its console, or a program in its log."""

from __future__ import annotations

import re
from pathlib import Path


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log file; empty when there is none."""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    # Colours of the console's status lines.
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)
    return "\n".join([line for line in plain.splitlines() if line.strip()][-count:])
