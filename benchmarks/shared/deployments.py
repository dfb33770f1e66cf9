"""What benchmarks of machines share: the command line in a state folder of its own, and its time."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

LAUNCHER = str(Path(__file__).resolve().parents[2] / "continuum")


def run(state: Path, *arguments: str, limit: float) -> float:
    """Run a command of ours that has to succeed, within `limit` seconds; seconds."""
    began = time.monotonic()
    ended = subprocess.run(
        [LAUNCHER, *arguments],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    if ended.returncode != 0:
        raise SystemExit(ended.stderr)
    return time.monotonic() - began


def machines_folder(state: Path, name: str) -> Path:
    """Where a deployment's machines lie."""
    return state / "continuum" / "deployments" / name / "machines"


def names(state: Path, name: str) -> list[str]:
    """What a deployment's machines are called on this host."""
    folder = machines_folder(state, name)
    return sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("ctm-"))


def addresses(state: Path, name: str) -> dict[str, str]:
    """Of a deployment's machines, by name."""
    config = machines_folder(state, name).with_name("ssh_config")
    return dict(re.findall(r"Host (\S+)\n\s+HostName (\S+)", config.read_text()))
