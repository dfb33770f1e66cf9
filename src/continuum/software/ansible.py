"""Apply a playbook to live machines: Ansible, through ansible-runner, over SSH.

Ansible runs in the folder of the plan's files and writes into a folder of the deployment that is
emptied afterwards; its whole output goes to a log file. Nothing of the caller's own settings of
Ansible or SSH is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

from continuum import environment, folders, interruption
from continuum.errors import MachineUnreachable, NotPossibleHere, StepFailed, TimedOut
from continuum.machine import Command, run_on_host
from continuum.parallel import for_each
from continuum.secret import masked, opened
from continuum.software.configure import PLAN_FOLDER, WORK_FOLDER

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.secret import Secret

TIMEOUT = 900.0
"""Seconds for one playbook."""

LOG = "logs/ansible.log"
"""Where the output of the last playbook lies in a deployment's folder."""

_LAST_LINES = 20
_POLL = 0.2
_GRACE = 5.0


@dataclass(frozen=True)
class HostResult:
    """How many tasks were carried out on a machine, and how many of them changed it."""

    ok: int
    changed: int


@dataclass(frozen=True)
class PlaybookResult:
    """A playbook that succeeded. `seconds` is wall time."""

    hosts: Mapping[str, HostResult]
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether any task changed any machine."""
        return any(host.changed for host in self.hosts.values())


@dataclass(frozen=True)
class _Failure:
    host: str
    task: str
    message: str
    output: str
    unreachable: bool


def _task(data: Mapping[str, Any]) -> str:
    return ": ".join(str(data[key]) for key in ("role", "task") if data.get(key))


@dataclass
class _Listener:
    """Takes the events of one playbook: writes the log, tells progress, keeps failures."""

    log: TextIO
    masked: Callable[[str], str]
    progress: Callable[[str], None]
    task: str = ""
    since: float = field(default_factory=time.monotonic)
    last: list[str] = field(default_factory=list)
    failures: list[_Failure] = field(default_factory=list)
    hosts: dict[str, HostResult] = field(default_factory=dict)
    process: int | None = None

    def __call__(self, event: dict[str, Any]) -> bool:
        """Handle one event; False, so that ansible-runner keeps no file of it."""
        self.process = event.get("pid", self.process)
        text = self.masked(event.get("stdout") or "")
        if text:
            self.log.write(text + "\n")
            self.last = [*self.last, *filter(str.strip, text.splitlines())][-_LAST_LINES:]
        data = event.get("event_data") or {}
        match event.get("event"):
            case "playbook_on_task_start" | "playbook_on_handler_task_start":
                self._end_task()
                self.task = _task(data)
                self.progress(self.task)
            case "runner_on_ok":
                self.progress(f"{self.task} ({data.get('host')})")
            case "runner_on_failed" if not data.get("ignore_errors"):
                self._failed(data, unreachable=False)
            case "runner_on_unreachable":
                self._failed(data, unreachable=True)
            case "playbook_on_stats":
                self._end_task()
                ok, changed = data.get("ok", {}), data.get("changed", {})
                self.hosts = {
                    host: HostResult(count, changed.get(host, 0)) for host, count in ok.items()
                }
            case _:
                pass
        return False

    def _end_task(self) -> None:
        """Note in the log how long the task took: whoever wants `up` quicker looks there first."""
        now = time.monotonic()
        if self.task:
            self.log.write(f"TOOK {now - self.since:.2f} s: {self.task}\n")
        self.since = now

    def _failed(self, data: dict[str, Any], *, unreachable: bool) -> None:
        result = data.get("res") or {}
        said = "\n".join(str(result.get(key) or "") for key in ("stdout", "stderr"))
        lines = [line for line in said.splitlines() if line.strip()][-_LAST_LINES:]
        self.failures.append(
            _Failure(
                host=str(data.get("host", "?")),
                task=_task(data),
                message=self.masked(str(result.get("msg") or "no message").strip()),
                output=self.masked("\n".join(lines)),
                unreachable=unreachable,
            )
        )


def run_playbook(  # noqa: PLR0913  what is secret is of two kinds
    deployment: Deployment,
    progress: Callable[[str], None],
    *,
    timeout: float = TIMEOUT,
    secrets: frozenset[str] = frozenset(),
    variables: Mapping[str, Secret] = MappingProxyType({}),
    log_of: Callable[[str], str] = lambda _: "",
) -> PlaybookResult:
    """Run the playbook that lies in the deployment's folder of plans.

    `secrets` are masked in what it says. `variables` are secret ones for its roles: they lie in a
    file of its work folder while it runs.
    `progress` is told the role, the task and the machine, from another thread. `log_of` is asked
    for more about a machine where a task failed. An exception in the calling thread (as
    KeyboardInterrupt) ends the playbook before it is raised further.

    Raises:
        StepFailed: a task failed; the message names the task and every machine where it did.
        MachineUnreachable: a machine does not answer.
        TimedOut: the playbook did not end within `timeout` seconds.
        NotPossibleHere: Ansible is not installed.
    """
    began = time.monotonic()
    log_path = deployment.write(LOG, "")
    known = Command((), secrets=secrets)
    with _work_folder(deployment) as work, log_path.open("w", buffering=1) as log:
        listener = _Listener(log, lambda text: masked(known.masked(text)), progress)
        ended_well = _run(deployment, work, listener, timeout, variables)
    if ended_well is None:
        raise TimedOut(
            f"the software was not configured within {timeout:g} s, during: {listener.task}",
            where=str(log_path),
            output="\n".join(listener.last),
            hint="continuum up, which goes on from here",
        )
    if not ended_well:
        raise _error(listener, log_path, log_of)
    return PlaybookResult(listener.hosts, time.monotonic() - began)


def _error(
    listener: _Listener, log_path: Path, log_of: Callable[[str], str]
) -> StepFailed | MachineUnreachable:
    if not listener.failures:
        return StepFailed(
            "Ansible could not run the playbook",
            where=str(log_path),
            output="\n".join(listener.last),
        )
    first = listener.failures[0]
    hosts = ", ".join(dict.fromkeys(failure.host for failure in listener.failures))
    if first.unreachable:
        return MachineUnreachable(
            f"cannot reach {hosts} by SSH: {first.message}",
            where=f"{first.host}: {first.task}",
            hint=f"continuum status; the full log is {log_path}",
        )
    return StepFailed(
        f'"{first.task}" failed on {hosts}: {first.message}',
        where=f"{first.host}: {first.task}",
        output="\n".join(filter(None, (first.output, listener.masked(log_of(first.host))))),
        hint=f"the full log is {log_path}",
    )


def _run(
    deployment: Deployment,
    work: Path,
    listener: _Listener,
    timeout: float,
    variables: Mapping[str, Secret],
) -> bool | None:
    """Run in another thread, so that signals stay with the caller. None: it took too long."""
    from ansible_runner import interface  # noqa: PLC0415  slow to import

    project = deployment.folder / PLAN_FOLDER
    cancelled, done = threading.Event(), threading.Event()
    runner = interface.init_runner(
        private_data_dir=str(work),
        project_dir=str(project),
        binary=str(_program()),
        cmdline=_arguments(work, variables),
        settings={"pexpect_timeout": _POLL, "suppress_output_file": True},
        envvars={"ANSIBLE_CONFIG": str(project / "ansible.cfg"), "ANSIBLE_HOME": str(work)},
        quiet=True,
        event_handler=listener,
        cancel_callback=cancelled.is_set,
    )
    own = {"CONFIG", "HOME", "CALLBACK_PLUGINS", "STDOUT_CALLBACK"}
    runner.config.env = environment.for_programs(
        {
            name: value
            for name, value in runner.config.env.items()
            if name.startswith("ANSIBLE_") and name.removeprefix("ANSIBLE_") in own
        },
        runner.config.env,
    )
    defects: list[BaseException] = []

    def work_through() -> None:
        try:
            runner.run()
        except BaseException as error:  # noqa: BLE001  raised again by the calling thread
            defects.append(error)
        finally:
            done.set()

    threading.Thread(target=work_through, name="ansible").start()
    # Not by joining the thread: a join that is interrupted takes the thread for ended.
    ended = False
    try:
        with interruption.waiting():
            ended = done.wait(timeout)
    finally:
        if not ended:
            _end(listener, cancelled, done, work)
    if defects:
        raise defects[0]
    return bool(runner.status == "successful") if ended else None


def _arguments(work: Path, variables: Mapping[str, Secret]) -> str:
    """Arguments of `ansible-playbook`, split as a shell would; secrets come by a file."""
    if not variables:
        return "playbook.yml"
    path = work / "secrets.json"
    # As Ansible's own values would be filled in: an `!unsafe` text is left as it is.
    text = json.dumps(
        {name: {"__ansible_unsafe": opened(each)} for name, each in variables.items()}
    )
    folders.write_file(path, text, folders.PRIVATE_FILE)
    return shlex.join(["playbook.yml", "--extra-vars", f"@{path}"])


def _end(
    listener: _Listener, cancelled: threading.Event, done: threading.Event, work: Path
) -> None:
    """Ask Ansible to end, then kill what is left of it: a task outlives Ansible when it can."""
    if listener.process is not None:
        _signal(listener.process, signal.SIGINT)
        done.wait(_GRACE)
    cancelled.set()
    done.wait(_GRACE)
    _kill_all(work)


def _signal(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _kill_all(work: Path) -> None:
    """Kill every process that was started for a folder: the environment outlives its parents."""
    mark = f"ANSIBLE_HOME={work}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                _signal(int(path.parent.name), signal.SIGKILL)


def _program() -> Path:
    beside = Path(sys.executable).with_name("ansible-playbook")
    if beside.exists():
        return beside
    found = shutil.which("ansible-playbook")
    if found is None:
        raise NotPossibleHere(
            "ansible-playbook is not installed beside this Python",
            where=sys.executable,
            hint="install the package ansible into the same environment",
        )
    return Path(found)


@contextlib.contextmanager
def _work_folder(deployment: Deployment) -> Iterator[Path]:
    """An empty folder for Ansible; in the end its SSH connections are closed and it is emptied."""
    folder = deployment.folder / WORK_FOLDER
    end_leftovers(deployment)
    folders.make_folder(folder, folders.PRIVATE_FOLDER)
    try:
        yield folder
    finally:
        _remove(folder)
        folders.make_folder(folder, folders.PRIVATE_FOLDER)


def _remove(folder: Path) -> None:
    for_each(_close, [path for path in folder.glob("*") if path.is_socket()])
    # A connection that ends takes its socket away while we look.
    shutil.rmtree(folder, ignore_errors=True)


def _close(socket: Path) -> None:
    """Tell the master connection behind a socket to end."""
    arguments = ("ssh", "-F", "none", "-S", socket.name, "-O", "exit", "any")
    run_on_host(Command(arguments, timeout=10, directory=socket.parent))


def end_leftovers(deployment: Deployment) -> None:
    """End what a process of ours that was killed left behind: Ansible and its SSH connections."""
    folder = deployment.folder / WORK_FOLDER
    if not folders.is_own_folder(folder):
        return
    _remove(folder)
    _kill_all(folder)


def write_files(deployment: Deployment, files: Mapping[str, str]) -> None:
    """Put the plan's files into the deployment's folder, and nothing else beside them."""
    folders.remove_tree(deployment.folder / PLAN_FOLDER)
    for path, content in files.items():
        deployment.write(f"{PLAN_FOLDER}/{path}", content)
