"""The one source of time of a deployment whose machines have clocks of their own: this host.

A detached process of ours tells this host's time at the host's address on the emulated network, over
a path that is not shaped. It neither sets this host's clock nor replaces its time service, as an NTP
daemon from a package would.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time

from continuum.errors import CommandFailed, TimedOut
from continuum.infrastructure.links import process
from continuum.infrastructure.plan import TIME_PORT

MODULE = "continuum_runtime.time_server"

START_TIMEOUT = 10.0
_REPLY_LIMIT = 0.2
_QUESTION = bytes([0x23]) + bytes(47)
"""Version 4, mode client."""


def ensure(identity: str, address: str) -> bool:
    """Have exactly one source that answers; True when it had to be started.

    Raises:
        CommandFailed: it ended instead; the error holds what it said.
        TimedOut: it does not answer; it has been stopped.
    """
    if len(process.find(identity, MODULE)) == 1 and answers(address):
        return False
    stop(identity)
    arguments = (sys.executable, "-m", MODULE, identity, address, str(TIME_PORT))
    started = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env=process.environment(),
        start_new_session=True,
    )
    assert started.stderr is not None
    with started.stderr:
        deadline = time.monotonic() + START_TIMEOUT
        while not answers(address):
            if started.poll() is not None:
                raise CommandFailed(
                    "this host's time cannot be told",
                    where=" ".join(arguments),
                    output=started.stderr.read().decode("utf-8", "replace").strip(),
                )
            if time.monotonic() > deadline:
                stop(identity)
                raise TimedOut(
                    f"this host's time was not told within {START_TIMEOUT:g} s",
                    where=" ".join(arguments),
                    hint=f"a rule of this host may keep UDP port {TIME_PORT} closed",
                )
    # It outlives us: nobody waits for it, and that is no oversight.
    started.returncode = 0
    return True


def answers(address: str) -> bool:
    """Whether a source tells its time at that address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.settimeout(_REPLY_LIMIT)
        try:
            own.connect((address, TIME_PORT))
            own.send(_QUESTION)
            return len(own.recv(100)) == len(_QUESTION)
        except ConnectionRefusedError:
            time.sleep(0.02)  # It is only starting.
            return False
        except OSError:
            return False


def stop(identity: str) -> bool:
    """Stop a deployment's source; True when there was one."""
    return process.stop_all(identity, MODULE)
