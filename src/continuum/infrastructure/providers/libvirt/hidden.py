"""Run a program that does not see a device, in a mount namespace of its own.

    unshare --mount --propagation=slave python -m continuum.….hidden DEVICE PROGRAM …

Where `/dev/kvm` opens and runs nothing, QEMU ends as soon as it tries: libvirt then asks each
program of QEMU again and again what it can do.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main(arguments: list[str]) -> None:
    """Put `/dev/null` in the device's place, become the program."""
    device, *program = arguments
    subprocess.run(["mount", "--bind", "/dev/null", device], check=True, timeout=30)
    os.execvp(program[0], program)  # noqa: S606  becoming the program is the point


if __name__ == "__main__":
    main(sys.argv[1:])
