"""Run a program that sees the layers of an image as one folder, in a mount namespace of its own.

    unshare --mount … python -m continuum.images.merged LOWER[:LOWER…] POINT PROGRAM …

The mount ends with the namespace, also when this process is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(arguments: list[str]) -> None:
    """Mount, become the program."""
    lower, point, *program = arguments
    os.makedirs(point, exist_ok=True)  # noqa: PTH103  nothing of ours is imported here
    if ":" in lower:
        mount = ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", point]
    else:
        mount = ["mount", "--bind", "--options", "ro", lower, point]
    subprocess.run(mount, check=True, timeout=30)
    os.execvp(program[0], program)  # noqa: S606  becoming the program is the point


if __name__ == "__main__":
    main(sys.argv[1:])
