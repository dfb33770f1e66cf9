"""The detached process of the user-space emulator: find it, start it, stop it.

Its program is the compiled one, or where there is none the one in Python, which does the same for a
tenth of the packets.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any

from continuum import folders, native, state_file
from continuum.deployment import Deployment
from continuum.errors import CommandFailed, TimedOut
from continuum.infrastructure.host import processes
from continuum_runtime import delay_table

MODULE = "continuum_runtime.delay_emulator"
PROGRAM = "delay_emulator"
COMPILED = "compiled"
PYTHON = "python"
CONFIGURATION = "links/delay_emulator.json"
TABLE = "links/delay_emulator.table"
SERIES = "links/series"
STATE = "links/delay_emulator.state"
LOG = "logs/delay_emulator.log"

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0


def find(identity: str, module: str = MODULE) -> list[int]:
    """Processes that emulate this deployment's links, told by their command lines and owners.

    With another module of `continuum_runtime`: those that carry it out for this deployment.
    """
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted(number for number in numbers if _is_ours(number, identity, module))


def _is_ours(process: int, identity: str, module: str) -> bool:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    named, whose = module.encode(), identity.encode()
    # A compiled program bears its module's name instead of its file's.
    ours = words[:2] == [named, whose] or words[1:4] == [b"-m", named, whose]
    return ours and processes.may_be_ours(process)


def running(deployment: Deployment) -> dict[str, Any] | None:
    """The configuration that a ready process carries out now, None when there is none."""
    found = find(deployment.identity)
    state = state_file.kept(deployment.folder / STATE, state_file.OBJECT)
    configuration = deployment.folder / CONFIGURATION
    content = state_file.undamaged(state_file.read_bytes(configuration))
    if state is None or content is None or found != [state.get("process")]:
        return None
    if state.get("configuration") != hashlib.sha256(content).hexdigest():
        return None
    return state_file.kept(configuration, state_file.OBJECT)


def files(configuration: dict[str, Any]) -> tuple[str, str]:
    """The configuration's text, and the table of it that the process reads."""
    text = json.dumps(configuration, indent=1) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text, delay_table.write(delay_table.of(configuration, digest))


def start(deployment: Deployment, configuration: dict[str, Any]) -> None:
    """Start a process and wait until it has all its queues.

    Raises:
        CommandFailed: it ended instead; the error holds its last output.
        TimedOut: it was not ready in time; it has been stopped.
    """
    text, table = files(configuration)
    deployment.write(CONFIGURATION, text)
    path = deployment.write(TABLE, table)
    state = deployment.folder / STATE
    folders.remove_tree(state)
    log = deployment.folder / LOG
    folders.write_private_file(log, b"", deployment.folder)
    compiled = native.program(PROGRAM) if configuration["program"] == COMPILED else None
    arguments: tuple[str, ...] = (MODULE, deployment.identity, str(path))
    if compiled is None:
        arguments = (sys.executable, "-m", *arguments)
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            executable=compiled or sys.executable,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment(),
            start_new_session=True,
        )
    folders.give_to_caller(log)
    deadline = time.monotonic() + START_TIMEOUT
    while not state.exists():
        if process.poll() is not None:
            raise CommandFailed(
                "the delay emulator ended at its start",
                where=" ".join(arguments),
                output=_tail(log),
                hint="continuum doctor",
            )
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise TimedOut(
                f"the delay emulator was not ready within {START_TIMEOUT:g} s",
                where=" ".join(arguments),
                output=_tail(log),
            )
        time.sleep(0.01)
    # It outlives us: nobody waits for it, and that is no oversight.
    process.returncode = 0


def stop(deployment: Deployment) -> bool:
    """Stop every process of the deployment; True when there was one.

    Raises:
        TimedOut: a process did not end even when killed.
    """
    stopped = stop_all(deployment.identity)
    folders.remove_tree(deployment.folder / STATE)
    return stopped


def stop_all(identity: str, module: str = MODULE) -> bool:
    """Stop every process that carries out that module for a deployment; True when there was one.

    Raises:
        TimedOut: a process did not end even when killed.
    """
    found = find(identity, module)
    for process in found:
        _stop(process, identity, module)
    return bool(found)


def _stop(process: int, identity: str, module: str) -> None:
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        # The handle now means one process for good: check that it is still the one we mean.
        if not _is_ours(process, identity, module):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], STOP_TIMEOUT)[0]:
                _reap(process)
                return
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
    raise TimedOut(f"{module} (process {process}) does not end")


def _reap(process: int) -> None:
    """Collect the process when it is our own child, started earlier by this same command."""
    try:
        os.waitpid(process, os.WNOHANG)
    except ChildProcessError:
        return


def environment() -> dict[str, str]:
    """Environment in which Python finds `continuum_runtime`, installed or not."""
    found = util.find_spec("continuum_runtime")
    assert found is not None
    assert found.origin is not None
    return {"PYTHONPATH": str(Path(found.origin).parent.parent)}


def _tail(log: Path) -> str:
    content = state_file.undamaged(state_file.read_bytes(log)) or b""
    return "\n".join(content.decode(errors="replace").splitlines()[-20:])
