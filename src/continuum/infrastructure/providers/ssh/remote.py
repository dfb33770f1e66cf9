"""Runs `continuum_runtime.live_machine` on a machine, where nothing of ours need be yet."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from continuum.errors import NotPossibleHere, StepFailed
from continuum.machine import Command, Machine, Result

OLDEST_PYTHON = (3, 9)
"""Of our programs in machines; Ansible's modules would do with 3.8."""

OLD = 9
"""Exit code: the machine's Python is older than that."""

TAKEN = 3
"""Exit code: another deployment uses the machine."""

_LAUNCHER = f"""\
import sys
if sys.version_info < {OLDEST_PYTHON}:
    sys.stdout.write("%d.%d" % sys.version_info[:2])
    sys.exit({OLD})
source = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
exec(compile(source, "live_machine", "exec"), {{"__name__": "__main__"}})
"""


@cache
def _source() -> bytes:
    return (resources.files("continuum_runtime") / "live_machine.py").read_bytes()


def ask(
    machine: Machine,
    verb: str,
    options: dict[str, Any] | None = None,
    *,
    content: bytes = b"",
    timeout: float = 60.0,
) -> Result:
    """Run one verb; `content` is its standard input. The result as it is, whatever its exit code.

    Raises:
        MachineUnreachable: the machine does not answer.
        TimedOut: the verb did not end in time.
    """
    source = _source()
    arguments = ("python3", "-I", "-c", _LAUNCHER, verb, json.dumps(options or {}))
    sent = f"{len(source)}\n".encode() + source + content
    return machine.run(Command(arguments, input=sent, timeout=timeout))


def tell(
    machine: Machine,
    verb: str,
    options: dict[str, Any] | None = None,
    *,
    content: bytes = b"",
    timeout: float = 60.0,
) -> dict[str, Any]:
    """Run one verb that must succeed; what it says.

    Raises:
        NotPossibleHere: another deployment uses the machine.
        StepFailed: it failed.
        MachineUnreachable: the machine does not answer.
    """
    result = ask(machine, verb, options, content=content, timeout=timeout)
    if result.exit_code == TAKEN:
        user = json.loads(result.stdout)["taken_by"]
        raise NotPossibleHere(
            f"machine {machine.name} is used by {user}", where=machine.name, hint=HOW_TO_FREE
        )
    if result.exit_code != 0:
        raise StepFailed(
            f"machine {machine.name} could not be changed ({verb})",
            where=machine.name,
            output=result.last_output,
            hint="`continuum up` goes on from here",
        )
    said: dict[str, Any] = json.loads(result.stdout)
    return said


HOW_TO_FREE = (
    "`continuum down` of that deployment, by whoever made it, sets the machine free; when its "
    "folder is lost, `up` and `down` of an experiment of the same name in the same state folder do"
)
