"""A worker or an endpoint as a process: a transient systemd unit on its machine.

systemd enforces the limits, on cgroup v1 and v2 alike, and keeps what became of the process: a unit
that ended well stays `active (exited)`, one that did not stays `failed`, until it is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from continuum.errors import StepFailed
from continuum.machine import Command
from continuum.software.contract import ExecutionModel, ProcessSpec
from continuum.software.execution_models import secret_variables
from continuum.software.execution_models.ready_files import with_ready_files

if TYPE_CHECKING:
    from continuum.images.recipe import InstallStep
    from continuum.machine import Machine

QUOTA_PERIOD_MILLISECONDS = 20
"""Short, so that a process that has used up its share does not stand still for long."""

_PREFIX = "continuum-"
_STOP_SECONDS = 5


@dataclass(frozen=True)
class Program:
    """What a unit runs: the process itself, or what runs it elsewhere.

    Attributes:
        arguments: program and arguments; systemd fills in ${variables}, here and in commands.
        environment: variables added to its own.
        properties: of its unit.
        before: commands before it, in this order.
        afterwards: a command after its end, however that came; it may fail.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    before: tuple[tuple[str, ...], ...] = ()
    afterwards: tuple[str, ...] = ()


class Process(ExecutionModel):
    """Workers are systemd units, without a container around them."""

    name: ClassVar[str] = "process"

    def install(self) -> tuple[InstallStep, ...]:
        """Nothing: every machine has systemd."""
        return ()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        """Put its files and start it; replaces one of the same name. Does not wait for it.

        Raises:
            StepFailed: the program is not there, or the machine's systemd cannot enforce the
                limits.
        """
        for path, content in process.files.items():
            machine.put(content, path)
        if process.secrets:
            content = self.secret_variables(process)
            machine.put(content, secret_variables.path_of(process), mode=secret_variables.MODE)
        if process.output:
            machine.put(b"", process.output)
        command = Command(systemd_run(process, self.program(process)))
        result = machine.run(command)
        if result.exit_code != 0:
            # Mostly because a unit of that name is there, if only as the memory of a failure.
            self.stop(machine, process)
            result = machine.run(command)
        if result.exit_code != 0:
            raise StepFailed(
                f'cannot start "{process.name}" on {machine.name}',
                where=f"{machine.name}: {unit_name(process)}",
                output=f"{result.last_output}\n{self.log(machine, process, lines=10)}",
                hint="is the program in the machine's image, and does the machine have the "
                "cgroup controllers cpu and memory?",
            )

    def program(self, process: ProcessSpec) -> Program:
        """What the process's unit runs."""
        return the_process_itself(process)

    def secret_variables(self, process: ProcessSpec) -> bytes:
        """The content of the file from which its unit takes them."""
        return secret_variables.for_systemd(process)

    def state(self, machine: Machine, process: ProcessSpec) -> str:
        """`starting`, `ready` (its ready file is there), `ended`, `failed`, or `absent`."""
        return self.states(machine, (process,))[process.name]

    def states(self, machine: Machine, processes: Sequence[ProcessSpec]) -> dict[str, str]:
        """State by name of several processes on one machine, asked for at once.

        A process that makes no ready file is `ready` while it runs.
        """
        if not processes:
            return {}
        asked = machine.run(
            Command(
                (
                    "systemctl",
                    "show",
                    "--property=Id,ActiveState,SubState,Result",
                    *(unit_name(process) for process in processes),
                ),
                only_reads=True,
            )
        ).check()
        units = _units(asked.text)
        found = {process.name: _state(units.get(unit_name(process), {})) for process in processes}
        return with_ready_files(machine, processes, found)

    def stop(self, machine: Machine, process: ProcessSpec) -> None:
        """Stop it, if it runs, and forget it."""
        unit = unit_name(process)
        # Both fail when there is no such unit, which is what is wanted.
        machine.run(Command(("systemctl", "stop", unit), timeout=_STOP_SECONDS + 30))
        machine.run(Command(("systemctl", "reset-failed", unit)))
        if process.secrets:
            machine.run(Command(("rm", "-f", secret_variables.path_of(process))))

    def stop_all(
        self,
        machine: Machine,
        processes: Sequence[ProcessSpec],  # noqa: ARG002  nobody else makes units of these names
    ) -> None:
        """Stop and forget every process of ours on the machine, however many there were."""
        units = f"{_PREFIX}*.service"
        machine.run(Command(("systemctl", "stop", units), timeout=_STOP_SECONDS + 30))
        machine.run(Command(("systemctl", "reset-failed", units)))
        machine.run(Command(("rm", "-rf", secret_variables.FOLDER)))

    def log(self, machine: Machine, process: ProcessSpec, lines: int = 0) -> str:
        """What it wrote to the system's log; the last `lines`, 0 for all."""
        limit = (f"--lines={lines}",) if lines else ()
        return machine.run(
            Command(
                (
                    "journalctl",
                    "--no-pager",
                    "--output=cat",
                    f"--unit={unit_name(process)}",
                    *limit,
                )
            )
        ).text


def unit_name(process: ProcessSpec) -> str:
    """The systemd unit of a process."""
    return f"{_PREFIX}{process.name}.service"


def the_process_itself(process: ProcessSpec) -> Program:
    """Its own program, with systemd's limits."""
    properties = {"WorkingDirectory": process.working_directory}
    if process.cpu is not None:
        properties["CPUQuota"] = f"{process.cpu * 100:.2f}%"
        properties["CPUQuotaPeriodSec"] = f"{QUOTA_PERIOD_MILLISECONDS}ms"
    if process.memory is not None:
        properties["MemoryMax"] = str(process.memory)
        properties["MemorySwapMax"] = "0"
    if process.secrets:
        properties["EnvironmentFile"] = secret_variables.path_of(process)
    return Program(tuple(map(literally, process.arguments)), process.environment, properties)


def systemd_run(process: ProcessSpec, program: Program | None = None) -> tuple[str, ...]:
    """The command that starts a process; it returns as soon as the program has been executed.

    A limit that the machine cannot enforce makes it fail. `program` is the process itself when
    None.
    """
    program = program or the_process_itself(process)
    properties = {
        "Type": "exec",
        "RemainAfterExit": "yes",
        "TimeoutStopSec": f"{_STOP_SECONDS}s",
        **program.properties,
    }
    if process.output:
        properties["StandardOutput"] = f"truncate:{process.output}"
        properties["StandardError"] = "journal"
    before = list(program.before)
    if process.ready_file:
        ready = PurePosixPath(literally(process.ready_file))
        before.append(("/bin/mkdir", "-p", str(ready.parent)))
        before.append(("/bin/rm", "-f", str(ready)))
    afterwards = (f"-{_words(program.afterwards)}",) if program.afterwards else ()
    return (
        "systemd-run",
        "--quiet",
        f"--unit={unit_name(process)}",
        f"--description=Continuum: {process.name}",
        *(f"--property={name}={value}" for name, value in properties.items()),
        *(f"--property=AssertControlGroupController={name}" for name in _asserted(process)),
        *(f"--property=ExecStartPre={_words(words)}" for words in before),
        *(f"--property=ExecStopPost={command}" for command in afterwards),
        *(f"--setenv={name}={value}" for name, value in program.environment.items()),
        "--",
        *program.arguments,
    )


def literally(argument: str) -> str:
    """For systemd, which would put variables of the environment into the arguments."""
    return argument.replace("$", "$$")


def _asserted(process: ProcessSpec) -> list[str]:
    limits = {"cpu": process.cpu, "memory": process.memory}
    return [name for name, limit in limits.items() if limit is not None]


def _words(words: tuple[str, ...]) -> str:
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _units(shown: str) -> dict[str, dict[str, str]]:
    """Properties by unit, from the blocks that `systemctl show` prints."""
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in shown.split("\n\n")
    ]
    return {block["Id"]: block for block in blocks if "Id" in block}


def _state(unit: dict[str, str]) -> str:
    match unit.get("ActiveState"), unit.get("SubState"), unit.get("Result"):
        case "active", "running", _:
            return "ready"
        case ("active", _, _) | ("deactivating", _, "success"):
            return "ended"
        case (("failed" | "deactivating"), _, _):
            return "failed"
        case "activating", _, _:
            return "starting"
        case _:
            return "absent"
