"""What a machine has said on its console, or a program in its log."""

from __future__ import annotations

import re
from pathlib import Path

from continuum import state_file


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log file; empty when there is none."""
    content = state_file.undamaged(state_file.read_bytes(path)) or b""
    text = content.decode("utf-8", "replace")
    # Colours of the console's status lines.
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", text)
    return "\n".join([line for line in plain.splitlines() if line.strip()][-count:])
