"""Handing of a command's environment and its arguments to itself: by no list of processes.

Everybody on the host may read the arguments of every process, and `sudo` writes them to its log. So
what goes through `sudo` goes through a pipe, and a `--set` of something secret is taken out of our own
arguments as soon as we see it.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from continuum.cli import behind_sudo
from continuum.secret import without_secrets

ARGUMENTS_FROM = "--arguments-from"
_POLL = 0.02


def are_secret(arguments: Sequence[str]) -> bool:
    """Tell whether something secret stands in the arguments of a command line."""
    return without_secrets(arguments) != list(arguments)


def arguments() -> list[str]:
    """The arguments of this process, without the program; does not return where they are secret.

    The same program then goes on in this process, with its arguments in an open file.
    """
    given = sys.argv[1:]
    if given[:1] == [ARGUMENTS_FROM] and len(given) == 2 and given[1].isdecimal():
        with os.fdopen(int(given[1]), "rb") as stream:
            stream.seek(0)
            found: list[str] = json.load(stream)
        return found
    if are_secret(given):
        descriptor = os.memfd_create("arguments", 0)
        os.write(descriptor, json.dumps(given).encode())
        before = sys.orig_argv[1 : len(sys.orig_argv) - len(given)]
        command = [sys.executable, *before, ARGUMENTS_FROM, str(descriptor)]
        os.execv(command[0], command)  # noqa: S606  no shell is wanted
    return given


def through_sudo(sudo: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become `sudo`, which runs this command line with that environment as root."""
    told = {
        "environment": dict(environment),
        "arguments": list(arguments),
        "hidden": are_secret(arguments),
    }
    pipe = offer(json.dumps(told).encode(), os.getpid())
    command = [sudo, "--", sys.executable, "-I", behind_sudo.__file__, str(pipe)]
    os.execv(command[0], command)  # noqa: S606  no shell is wanted


def offer(content: bytes, reader: int) -> Path:
    """A pipe that gives the content to whoever opens it first; only we and root may.

    It is gone as soon as it has been read, and when the process `reader` ends without that.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    place = runtime if os.access(runtime, os.W_OK | os.X_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="continuum-", dir=place))
    pipe = folder / "pipe"
    os.mkfifo(pipe, 0o600)
    child = os.fork()
    if child == 0:
        try:
            # Another process in between, so that whoever we become has no child unknown to it.
            if os.fork() == 0:
                _give_and_remove(content, pipe, reader)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return pipe


def _give_and_remove(content: bytes, pipe: Path, reader: int) -> None:
    try:
        _give(content, pipe, reader)
    finally:
        pipe.unlink()
        pipe.parent.rmdir()


def _give(content: bytes, pipe: Path, reader: int) -> None:
    while True:
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not _exists(reader):
                return
        # To wait for a reader by opening the pipe would be to wait for ever where none comes.
        time.sleep(_POLL)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It has become root's.
    return True
