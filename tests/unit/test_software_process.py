"""The execution model `process`: the commands it gives and how it reads systemd's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from continuum.errors import StepFailed
from continuum.machine import Command, Result
from continuum.secret import Secret
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models.process import Process, systemd_run, unit_name
from continuum.testing.software import DeadMachine

WORKER = ProcessSpec(
    name="worker-1",
    machine="edge-1",
    arguments=("python3", "-m", "worker", "$HOME"),
    environment={"PYTHONPATH": "/opt/x y"},
    files={"/run/a/settings": b"1"},
    cpu=0.75,
    memory=2**28,
    output="/run/a/out",
    ready_file='/run/a "b"/ready',
    working_directory="/run/a",
)


class Scripted(DeadMachine):
    """Answers by program: `(exit code, standard output)`, the last one again and again."""

    def __init__(self, **answers: list[tuple[int, str]]) -> None:
        super().__init__()
        self.answers = answers
        self.ran: list[tuple[str, ...]] = []
        self.puts: dict[str, bytes] = {}
        self.modes: dict[str, int] = {}

    def run(self, command: Command) -> Result:
        self.ran.append(command.arguments)
        left = self.answers.get(command.arguments[0].replace("-", "_"), [(0, "")])
        code, text = left.pop(0) if len(left) > 1 else left[0]
        return Result(command, code, text.encode(), b"", 0.0, self.name)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        self.puts[path] = content
        self.modes[path] = mode


def shown(state: str, sub: str, result: str = "success", name: str = "worker-1") -> str:
    unit = f"continuum-{name}.service"
    return f"Result={result}\nId={unit}\nActiveState={state}\nSubState={sub}\n"


def test_secret_variables_come_by_a_file_that_goes_with_the_process() -> None:
    process = replace(WORKER, secrets={"TOKEN": Secret('a "b" \\ $c `d`\n#e é')})
    machine, path = Scripted(), "/run/continuum/secrets/worker-1"
    Process().start(machine, process)
    assert machine.puts[path] == 'TOKEN="a \\"b\\" \\\\ \\$c \\`d\\`\n#e é"\n'.encode()
    assert machine.modes[path] == 0o600
    assert f"--property=EnvironmentFile={path}" in machine.ran[-1]
    assert "TOKEN" not in str(machine.ran) + repr(systemd_run(process))
    Process().stop(machine, process)
    assert machine.ran[-1] == ("rm", "-f", path)
    Process().stop_all(machine, (process,))
    assert machine.ran[-1] == ("rm", "-rf", "/run/continuum/secrets")


@pytest.mark.parametrize(("name", "value"), [("²", "a"), ("a.b", "a"), ("A", "\x1b[1m")])
def test_what_systemd_would_leave_out_without_a_word_is_refused(name: str, value: str) -> None:
    with pytest.raises(StepFailed):
        Process().start(Scripted(), replace(WORKER, secrets={name: Secret(value)}))


def test_the_command_that_starts_a_process() -> None:
    assert systemd_run(WORKER) == (
        "systemd-run",
        "--quiet",
        "--unit=continuum-worker-1.service",
        "--description=Continuum: worker-1",
        "--property=Type=exec",
        "--property=RemainAfterExit=yes",
        "--property=TimeoutStopSec=5s",
        "--property=WorkingDirectory=/run/a",
        "--property=CPUQuota=75.00%",
        "--property=CPUQuotaPeriodSec=20ms",
        f"--property=MemoryMax={2**28}",
        "--property=MemorySwapMax=0",
        "--property=StandardOutput=truncate:/run/a/out",
        "--property=StandardError=journal",
        "--property=AssertControlGroupController=cpu",
        "--property=AssertControlGroupController=memory",
        '--property=ExecStartPre="/bin/mkdir" "-p" "/run/a \\"b\\""',
        '--property=ExecStartPre="/bin/rm" "-f" "/run/a \\"b\\"/ready"',
        "--setenv=PYTHONPATH=/opt/x y",
        "--",
        "python3",
        "-m",
        "worker",
        "$$HOME",
    )


def test_without_limits_none_are_set() -> None:
    command = systemd_run(ProcessSpec("free", "edge-1", ("true",)))
    assert not [word for word in command if "CPU" in word or "Memory" in word or "Assert" in word]


def test_files_are_there_before_it_starts_in_one_command() -> None:
    machine = Scripted()
    Process().start(machine, WORKER)
    assert machine.puts == {"/run/a/settings": b"1", "/run/a/out": b""}
    assert machine.ran == [systemd_run(WORKER)]


def test_one_of_the_same_name_is_replaced() -> None:
    machine = Scripted(systemd_run=[(1, "exists already"), (0, "")])
    Process().start(machine, WORKER)
    unit = unit_name(WORKER)
    assert machine.ran == [
        systemd_run(WORKER),
        ("systemctl", "stop", unit),
        ("systemctl", "reset-failed", unit),
        systemd_run(WORKER),
    ]


def test_what_cannot_start_says_why() -> None:
    machine = Scripted(systemd_run=[(1, "Assertion failed")], journalctl=[(0, "the log")])
    with pytest.raises(StepFailed, match='cannot start "worker-1" on edge-1') as caught:
        Process().start(machine, WORKER)
    assert caught.value.output == "Assertion failed\nthe log"


@pytest.mark.parametrize(
    ("unit", "there", "state"),
    [
        (shown("activating", "start-pre"), False, "starting"),
        (shown("active", "running"), False, "starting"),
        (shown("active", "running"), True, "ready"),
        (shown("active", "exited"), True, "ended"),
        (shown("deactivating", "stop-sigterm"), True, "ended"),
        (shown("deactivating", "final-sigterm", "exit-code"), True, "failed"),
        (shown("failed", "failed", "oom-kill"), True, "failed"),
        (shown("inactive", "dead"), True, "absent"),
        ("", True, "absent"),
    ],
)
def test_states(unit: str, state: str, *, there: bool) -> None:
    answer = (0, WORKER.ready_file) if there else (1, "")
    machine = Scripted(systemctl=[(0, unit)], stat=[answer])
    assert Process().state(machine, WORKER) == state


def test_many_processes_are_asked_for_at_once() -> None:
    plain = ProcessSpec("plain", "edge-1", ("true",))
    gone = ProcessSpec("gone", "edge-1", ("true",))
    text = "\n".join([shown("active", "running"), shown("active", "running", name="plain")])
    machine = Scripted(systemctl=[(0, text)], stat=[(1, "")])
    assert Process().states(machine, (WORKER, plain, gone)) == {
        "worker-1": "starting",
        "plain": "ready",
        "gone": "absent",
    }
    assert [command[0] for command in machine.ran] == ["systemctl", "stat"]
    assert Process().states(machine, ()) == {}


def test_the_log_is_the_units() -> None:
    machine = Scripted(journalctl=[(0, "said\n")])
    assert Process().log(machine, WORKER, lines=5) == "said"
    Process().log(machine, WORKER)
    first, second = machine.ran
    assert set(first) - set(second) == {"--lines=5"}
