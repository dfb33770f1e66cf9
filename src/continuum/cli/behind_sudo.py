"""Program that `sudo` starts: takes environment and arguments from a pipe, and becomes the command itself.

    python -I behind_sudo.py PIPE

It is run as a file, and imports nothing of ours: where that lies is told by the environment.
"""

import json
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

LIMIT = 30
"""Seconds for the pipe's other end, which waits for us."""


def _too_late(_: int, __: "FrameType | None") -> NoReturn:
    sys.exit("continuum: the command that called sudo has ended")


def main(pipe: str) -> NoReturn:
    """Read, then run the command with what was read."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(LIMIT)
    try:
        with open(pipe, "rb") as stream:  # noqa: PTH123  as little as can be is imported
            told = json.load(stream)
    except (OSError, ValueError):
        _too_late(0, None)
    signal.alarm(0)
    arguments = told["arguments"]
    if told["hidden"]:
        descriptor = os.memfd_create("arguments", 0)
        os.write(descriptor, json.dumps(arguments).encode())
        arguments = ["--arguments-from", str(descriptor)]
    command = [sys.executable, "-m", "continuum", *arguments]
    os.execve(command[0], command, {**os.environ, **told["environment"]})  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
