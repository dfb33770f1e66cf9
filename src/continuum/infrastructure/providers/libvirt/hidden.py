"""Run a program that does not see a device, in a mount namespace of its own.

    unshare --mount --propagation=slave python -m continuum.….hidden DEVICE PROGRAM …

Where `/dev/kvm` opens and runs nothing, QEMU ends as soon as it tries: libvirt then asks each
program of QEMU again and again what it can do. It does so too where the user that QEMU runs as may
open what is there and QEMU does not use it: in its place stands a device that nobody may open.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

_FOLDER = "/mnt"
"""Of this mount namespace alone; a file system of its own holds devices wherever others do not."""
_LIMIT = 30.0


def main(arguments: list[str]) -> None:
    """Put a device that does nothing in the device's place, become the program."""
    device, *program = arguments
    _mount("--types=tmpfs", "none", _FOLDER)
    closed = f"{_FOLDER}/closed"
    os.mknod(closed, stat.S_IFCHR, Path("/dev/null").stat().st_rdev)
    _mount("--bind", closed, device)
    subprocess.run(["umount", _FOLDER], check=True, timeout=_LIMIT)
    os.execvp(program[0], program)  # noqa: S606  becoming the program is the point


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=_LIMIT)


if __name__ == "__main__":
    main(sys.argv[1:])
