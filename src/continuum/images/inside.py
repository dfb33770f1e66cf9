"""Run a program inside the layers of an image, in a mount namespace of its own.

    unshare --mount … python -m continuum.images.inside LOWER[:LOWER…] UPPER WORK POINT PROGRAM …

What the program writes lands in the upper folder. The mounts end with the namespace, also when
this process is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(arguments: list[str]) -> None:
    """Mount, change root, become the program."""
    lower, upper, work, point, *program = arguments
    for folder in (upper, work, point):
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103  nothing of ours is imported here
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mounts = (
        ("mount", "-t", "overlay", "overlay", "-o", options, point),
        ("mount", "-t", "proc", "proc", f"{point}/proc"),
        ("mount", "--rbind", "/dev", f"{point}/dev"),
    )
    for mount in mounts:
        subprocess.run(mount, check=True, timeout=30)
    os.chroot(point)
    os.chdir("/")
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
    os.execvpe(program[0], program, environment)  # noqa: S606  becoming the program is the point


if __name__ == "__main__":
    main(sys.argv[1:])
