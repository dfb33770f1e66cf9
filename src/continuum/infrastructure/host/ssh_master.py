"""Master connections of SSH, which live on for a minute after their last use."""

from __future__ import annotations

import shutil
from pathlib import Path

from continuum.machine import Command, run_on_host


def close_all(folder: Path) -> None:
    """End the connections that have their sockets in a folder, and remove it."""
    for socket in folder.iterdir():
        run_on_host(
            Command(("ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "machine"))
        )
    shutil.rmtree(folder, ignore_errors=True)
