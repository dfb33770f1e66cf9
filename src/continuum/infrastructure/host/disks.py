"""Which disk a folder is on, as control groups name it."""

from __future__ import annotations

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_BLOCK = Path("/sys/dev/block")


def disk_of(folder: Path, mounts: Path = _MOUNTS, block: Path = _BLOCK) -> str | None:
    """Number of the whole disk that holds a folder, as `254:0`; None when no disk of ours does.

    The folder may not exist yet. A partition counts as its disk: the kernel limits disks.
    """
    there = next(each for each in (folder, *folder.parents) if each.exists())
    device = there.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    if os.major(device) == 0:
        # File systems over several disks have a number of their own; their source is one of them.
        number = _source_of(number, mounts) or number
    entry = block / number
    if not entry.exists():
        return None
    if (entry / "partition").exists():
        return (entry.resolve().parent / "dev").read_text().strip()
    return number


def _source_of(number: str, mounts: Path) -> str | None:
    for line in mounts.read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        source = Path(after.split(" ")[1])
        if before.split(" ")[2] == number and source.is_block_device():
            device = source.stat().st_rdev
            return f"{os.major(device)}:{os.minor(device)}"
    return None
