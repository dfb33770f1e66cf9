"""Owners of this host's processes: anybody may give a process of theirs any title."""

from __future__ import annotations

import os
import re
from pathlib import Path

PROC = Path("/proc")
_ROOT = 0


def may_be_ours(number: int, proc: Path = PROC) -> bool:
    """Tell whether a process is root's or our own user's, and of this host itself.

    All four of its user ids count: a program that is root's for whoever starts it keeps theirs as
    the real one. In a container, other hosts' processes run under the same titles.
    """
    try:
        status = (proc / str(number) / "status").read_text()
    except OSError:
        return False
    users = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
    numbers = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
    if users is None or {int(each) for each in users[1].split()} - {_ROOT, os.geteuid()}:
        return False
    # One number alone: that which it has for whoever reads this.
    return numbers is None or len(numbers[1].split()) == 1


def groups(number: int, proc: Path = PROC) -> list[str]:
    """A process's control group in each hierarchy, as `/continuum-0badcafe/edge-1/monitor`."""
    try:
        lines = (proc / str(number) / "cgroup").read_text().splitlines()
    except OSError:
        return []
    return [line.split(":", 2)[2] for line in lines]
