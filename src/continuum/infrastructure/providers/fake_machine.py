"""A machine of the provider `fake`, and the folder of files that is its world.

A process is what `systemd-run` was told: a worker runs until it is stopped; an endpoint runs from
the time in its file `start` until its load is over, and leaves made-up samples.
"""

from __future__ import annotations

import base64
import json
import os
import posixpath
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from continuum import folders, interruption, state_file
from continuum.errors import MachineUnreachable, NotFound, StepFailed, TimedOut
from continuum.experiment.units import Seconds
from continuum.infrastructure.plan import InfrastructurePlan, Link, LinkSettings, MachineSpec
from continuum.infrastructure.providers.contract import MachineState, PluginSettings
from continuum.machine import Command, Machine, Result, refuse_when_stopped
from continuum.state_file import Damaged
from continuum_runtime.steady_clock import offset_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from continuum.deployment import Deployment

WORLD = "machines"
LINKS_FILE = "links.json"
MACHINE_FILE = "machine.json"
HANG_SECONDS = 300.0
HANG_LOOK = 0.05
LINKS = TypeAdapter(tuple[Link, ...])
_LIVE = "continuum_runtime.live"
_LIMIT_PROBE = "continuum_runtime.limit_probe"
_IDLE, _UNIT = 0.05, 0.4
"""Shares of its cores and memory that a machine takes, and each unit on it."""
_GIVEN_UP_NS = 10 * 10**9
_telling = threading.Lock()
_taken: dict[str, tuple[int, int]] = {}
"""When a machine last told, and processor time until then, both in ns, by its folder."""
_WRITTEN_SECONDS = TypeAdapter(Seconds)


def _seconds(value: object) -> object:
    """A stored plan holds the number, an experiment the text with its unit."""
    return _WRITTEN_SECONDS.validate_python(value) if isinstance(value, str) else value


class FakeSettings(PluginSettings):
    """How the fake world behaves.

    Operations are `image`, `network`, `create`, `links`, `measure`, `destroy`; on machines `put`,
    `get`, `run`, `limits`, which measures them, and every program that is run, by its name. Each may
    be narrowed to a machine, as `create:edge-1`.
    """

    delay: Annotated[float, BeforeValidator(_seconds)] = Field(
        default=0.0, ge=0, le=3600, description="Time that every operation takes."
    )
    fail_at: tuple[str, ...] = Field(default=(), description="Operations that fail.")
    hang_at: tuple[str, ...] = Field(
        default=(), exclude=True, description="Operations that do not end, until they are stopped."
    )
    links_off_by: float = Field(
        default=0.0,
        ge=-100,
        le=1000,
        description="Percent by which measured links differ from asked ones.",
    )
    lost_links: int = Field(
        default=0, ge=0, description="Links that are not in force any more once they were measured."
    )
    limits_off_by: float = Field(
        default=0.0,
        ge=-100,
        le=1000,
        description="Percent by which measured limits of machines differ from asked ones.",
    )
    loss: float = Field(default=0.0, ge=0, le=100, description="Percent of requests that are lost.")


def _until(lines: bytes, now_ns: int) -> bytes:
    """Sample lines that an endpoint has written by now: by when they were answered, or given up."""

    def closed(line: bytes) -> int:
        sample = json.loads(line)
        return int(sample.get("answered_ns") or sample["intended_ns"] + _GIVEN_UP_NS)

    return b"".join(
        line
        for at, line in sorted((closed(line), line) for line in lines.splitlines(keepends=True))
        if at <= now_ns
    )


def _is_under_load(unit: Unit) -> bool:
    """Tell whether a unit's load has begun, and lasts."""
    if unit.ends is None:
        return False
    return unit.ends > (time.monotonic_ns() + (unit.offset_ns or 0)) / 1e9


def _samples_of(unit: Unit) -> str:
    """Where the endpoint of a unit writes its samples."""
    return unit.output or f"{unit.folder}/samples.jsonl"


@dataclass(frozen=True)
class _Kept:
    """Content of `machine.json`."""

    state: Literal["running", "stopped"]
    fingerprint: str
    specification: dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """A process, as `systemd-run` was told of it; `ends` in Unix time, None while it goes on;
    `offset_ns` what Unix time was ahead of the monotonic clock when its load began.
    """

    folder: str = ""
    output: str = ""
    ends: float | None = None
    offset_ns: int | None = None
    words: tuple[str, ...] = ()


_MACHINES = TypeAdapter(_Kept)
_UNITS = TypeAdapter(Unit)


class World:
    """What exists: the files of one deployment."""

    def __init__(self, settings: FakeSettings, deployment: Deployment) -> None:
        self.settings = settings
        self.folder = deployment.folder / WORLD

    def operate(self, operation: str, machine: str = "") -> None:
        """Take the time that was set, then fail if that was set."""
        operate(self.settings, operation, machine)

    def links(self) -> tuple[Link, ...]:
        """The links that were written down; none where the file is damaged."""
        return state_file.kept(self.folder / LINKS_FILE, LINKS) or ()

    def units(self, machine: str) -> dict[str, Unit]:
        """A machine's processes by name; those whose file is damaged are gone."""
        found = {}
        for path in sorted((self.folder / machine / "units").glob("*.json")):
            unit = state_file.kept(path, _UNITS)
            if unit is not None:
                found[path.stem] = unit
        return found

    def write(self, name: str, content: object) -> bool:
        """Write a file of the world; True when that changed it."""
        text = json.dumps(content, indent=1, default=str) + "\n"
        path = self.folder / name
        if state_file.read_text(path) == text:
            return False
        folders.remove_other_kinds(path)
        folders.write_private_file(path, text, self.folder)
        return True

    def remove(self, name: str) -> None:
        """Remove a file of the world, or a machine with all its files."""
        folders.remove_tree(self.folder / name)

    def state(self, machine: str) -> str:
        """`running`, `stopped` or `absent`."""
        found = self._kept(machine)
        return found.state if found is not None else "absent"

    def set_state(self, machine: str, state: Literal["running", "stopped"]) -> None:
        """Start or stop a machine that is there."""
        found = self._kept(machine)
        if found is not None:
            self.write(f"{machine}/{MACHINE_FILE}", asdict(replace(found, state=state)))

    def machines(self) -> list[MachineState]:
        """All that exist, by name; one whose file is damaged does not run, and is made anew."""
        return [
            MachineState(name, found.state, found.fingerprint)
            if found is not None
            else MachineState(name, "stopped", "")
            for name in self._names()
            for found in [self._kept(name)]
        ]

    def damage(self) -> list[Damaged]:
        """The files that cannot be read."""
        files: list[tuple[str, TypeAdapter[Any]]] = [
            (LINKS_FILE, LINKS),
            *((f"{each}/{MACHINE_FILE}", _MACHINES) for each in self._names()),
        ]
        found = (state_file.read_json(self.folder / name, schema) for name, schema in files)
        return [each for each in found if isinstance(each, Damaged)]

    def _names(self) -> list[str]:
        """Machines that have a file."""
        try:
            with os.scandir(self.folder) as entries:
                there = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in there if os.path.lexists(self.folder / name / MACHINE_FILE))

    def _kept(self, machine: str) -> _Kept | None:
        return state_file.kept(self.folder / machine / MACHINE_FILE, _MACHINES)


def operate(settings: FakeSettings, operation: str, machine: str = "") -> None:
    """Take the time that was set, then hang or fail if that was set.

    Raises:
        StepFailed: `fail_at` names the operation, or `hang_at` does and nobody stopped it.
    """
    if settings.delay:
        interruption.pause(settings.delay)
    named = f"{operation}:{machine}"
    if operation in settings.hang_at or named in settings.hang_at:
        began = time.monotonic()
        while time.monotonic() - began < interruption.allowance(HANG_SECONDS):
            refuse_when_stopped(operation)
            interruption.pause(HANG_LOOK)
        raise StepFailed(f"{operation} hung, as the setting hang_at says", where=machine)
    if operation in settings.fail_at or named in settings.fail_at:
        raise StepFailed(
            f"{operation} failed, as the setting fail_at says",
            where=machine or "provider fake",
            output=f"fake: {named.rstrip(':')}",
            hint="remove it from infrastructure.fake.fail_at",
        )


class FakeMachine(Machine):
    """A machine on paper."""

    def __init__(self, world: World, spec: MachineSpec, plan: InfrastructurePlan) -> None:
        self.name = spec.name
        self.tier = spec.tier
        self.address = spec.address
        self._spec = spec
        self._plan = plan
        self._world = world
        self._folder = world.folder / spec.name

    def run(self, command: Command) -> Result:
        """Succeed without output, but for the few programs that are known here."""
        self._begin("run")
        if _LIMIT_PROBE in command.arguments:
            self._world.operate("limits", self.name)
            answer = self._measure_limits(json.loads(command.input or b"{}"))
            return Result(command, 0, answer, b"", self._world.settings.delay, self.name)
        self._world.operate(posixpath.basename(command.arguments[0]), self.name)
        if command.arguments[0] == "sleep" and float(command.arguments[1]) > command.timeout:
            raise TimedOut(
                f"`{command}` did not end within {command.timeout:g} s",
                where=f"{self.name}: {command}",
            )
        if _LIVE in command.arguments:
            output, code = self._tell(json.loads(command.input or b"{}")), 0
        else:
            output, code = self._answer(*command.arguments)
        return Result(command, code, output, b"", self._world.settings.delay, self.name)

    def stream(self, command: Command) -> Iterator[str]:
        """The lines of what `run` answers."""
        yield from self.run(command).check().stdout.decode("utf-8", "replace").splitlines()

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Keep a file; the file `start` of an endpoint starts its load."""
        del mode  # On this host nobody else has a business with it.
        self._begin("put")
        self._write(path, content)
        if path.endswith("/start"):
            self._start_load(PurePosixPath(path).parent, int(content))

    def get(self, path: str) -> bytes:
        """Return a file that was put; of samples those that have come to pass by now."""
        self._begin("get")
        content = self._read(path)
        return _until(content, self._now_ns()) if self._is_being_written(path) else content

    def _is_being_written(self, path: str) -> bool:
        """Whether an endpoint whose load lasts writes its samples to that file."""
        units = self._world.units(self.name).values()
        return any(_is_under_load(unit) and _samples_of(unit) == path for unit in units)

    def _now_ns(self) -> int:
        """Unix time, by the clock that is never set while a load lasts: as real endpoints have it."""
        units = self._world.units(self.name).values()
        offset = next((each.offset_ns for each in units if each.offset_ns is not None), None)
        return time.time_ns() if offset is None else time.monotonic_ns() + offset

    def _begin(self, operation: str) -> None:
        self._world.operate(operation, self.name)
        if self._world.state(self.name) != "running":
            raise MachineUnreachable(
                f"machine {self.name} does not run", where=self.name, hint="continuum up FILE"
            )

    def _path(self, path: str) -> Path:
        parts = (part for part in PurePosixPath(path).parts if part not in {"/", ".."})
        return self._folder.joinpath("files", *parts)

    def _write(self, path: str, content: bytes) -> None:
        folders.write_private_file(self._path(path), content, self._world.folder)

    def _read(self, path: str) -> bytes:
        content = state_file.read_bytes(self._path(path))
        if not isinstance(content, bytes):
            raise NotFound(f"no file {path}", where=self.name)
        return content

    def _answer(self, program: str, *arguments: str) -> tuple[bytes, int]:
        """Standard output and exit code of a program."""
        output, code = "", 0
        match posixpath.basename(program), arguments:
            case "hostname", ():
                output = f"{self.name}\n"
            case "false", _:
                code = 1
            case "cat", (path,):
                return self._read(path), 0
            case "stat", ("--format=%n", *paths):
                output = "".join(f"{path}\n" for path in paths if self._path(path).exists())
            case "journalctl", words:
                output = self._journal(words)
            case "systemd-run", words:
                self._start_unit(words)
            case "systemctl", ("show", *words):
                units = [word for word in words if not word.startswith("--")]
                output = "\n".join(self._show_unit(unit) for unit in units)
            case name, words:
                self._change(name, words)
        return output.encode(), code

    def _change(self, program: str, arguments: Sequence[str]) -> None:
        """Carry out a program that answers nothing."""
        match program, arguments:
            case "systemctl", ("stop", unit):
                self._world.remove(f"{self.name}/units/{unit}.json")
            case "rm", (_, *paths):
                self._remove(paths)
            case "poweroff", ():
                self._world.set_state(self.name, "stopped")

    def _remove(self, paths: Sequence[str]) -> None:
        """Remove files, and folders with what is in them."""
        for path in map(self._path, paths):
            if path.is_dir():
                folders.remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    def _journal(self, words: Sequence[str]) -> str:
        """The units that it knows, when that is asked for; it keeps no log."""
        if not any(word.startswith("--field=") for word in words):
            return f"{self.name} keeps no log: it is fake\n"
        return "".join(f"{unit}\n" for unit in self._world.units(self.name))

    def _measure_limits(self, task: dict[str, Any]) -> bytes:
        """The answer of `continuum_runtime.limit_probe`: what is asked, off by what was set."""
        factor = 1 + self._world.settings.limits_off_by / 100
        answer: dict[str, Any] = {"available": self._spec.cores, "failed": {}}
        for limit, said in task.items():
            if limit == "cores":
                answer[limit] = {"used": said["asked"] * factor, "spare": said["asked"]}
            elif limit == "memory":
                # Too little is told where it is made.
                measured = round(self._spec.memory * max(1.0, factor))
                answer[limit] = {"bytes": measured, "enforced": True}
            else:
                answer[limit] = {"rate": said["rate"] * factor, "busy": 0.0, "spare": 1.0}
        return json.dumps(answer).encode() + b"\n"

    def _tell(self, asked: dict[str, Any]) -> bytes:
        """What `continuum_runtime.live` answers: the samples that have come to pass by now."""
        now = self._now_ns()
        files = {}
        for path, offset in asked.get("files", {}).items():
            with suppress(NotFound):
                content = _until(self._read(path), now)
                begin = offset if offset <= len(content) else 0
                files[path] = {
                    "from": begin,
                    "offset": len(content),
                    "data": base64.b64encode(content[begin:]).decode(),
                    "more": False,
                }
        units = [
            unit
            for unit in self._world.units(self.name).values()
            if unit.ends is None or _is_under_load(unit)
        ]
        busy = min(1.0, _IDLE + _UNIT * len(units)) * self._spec.cores * self._spec.quota
        # Processor time only grows, also when a unit ends.
        with _telling:
            last_ns, taken_ns = _taken.get(str(self._folder), (now, 0))
            taken_ns += int((now - last_ns) * busy)
            _taken[str(self._folder)] = (now, taken_ns)
        return (
            json.dumps(
                {
                    "at": now,
                    "cpu_ns": taken_ns,
                    "memory_bytes": int(self._spec.memory * min(1.0, _IDLE + _UNIT * len(units))),
                    "files": files,
                    "got": [{"status": 0, "body": "made up"} for _ in asked.get("get", ())],
                }
            ).encode()
            + b"\n"
        )

    def _start_unit(self, words: Sequence[str]) -> None:
        """Write a unit down, and make the file that says that it is ready."""
        unit = next(word for word in words if word.startswith("--unit=")).partition("=")[2]
        output = next((word.partition("truncate:")[2] for word in words if "truncate:" in word), "")
        removed = next((word for word in words if "/rm" in word), "").split()
        ready = removed[-1].strip('"') if removed else ""
        if ready:
            self._write(ready, b"")
        self._world.write(
            f"{self.name}/units/{unit}.json",
            asdict(Unit(str(PurePosixPath(ready).parent), output, words=tuple(words))),
        )

    def _show_unit(self, unit: str) -> str:
        found = self._world.units(self.name).get(unit)
        if found is None:
            active, sub = "inactive", "dead"
        else:
            over = found.ends is not None and not _is_under_load(found)
            active, sub = "active", "exited" if over else "running"
        return f"Id={unit}\nActiveState={active}\nSubState={sub}\nResult=success\n"

    def _start_load(self, folder: PurePosixPath, start: int) -> None:
        """Let the endpoint of that folder run from `start`, and write its samples already."""
        from continuum.testing.synthetic import (  # noqa: PLC0415  only a benchmark needs it
            Behaviour,
            MadeUpLoad,
            synthetic_sample_lines,
        )

        for name, unit in self._world.units(self.name).items():
            if unit.folder != str(folder):
                continue
            config = json.loads(self._read(f"{folder}/config.json"))
            told = config.get("load", config)
            load = MadeUpLoad(
                seed=int(config.get("seed", start)),
                frequency=told["frequency"],
                warmup=told["warmup"] / told["frequency"],
                duration=told["requests"] / told["frequency"],
                answer_timeout=told["answer_timeout"],
            )
            schedule, ends = None, start / 1e9 + load.warmup + load.duration
            if told.get("arrivals"):
                offsets = [int(each) for each in self._read(told["arrivals"]).split()]
                schedule, ends = (told["warmup"], offsets), (start + max(offsets, default=0)) / 1e9
            forward, back = self._links_of(json.dumps(config) + " ".join(unit.words))
            samples = synthetic_sample_lines(
                load,
                Behaviour(forward=forward, back=back),
                start_ns=start,
                schedule=schedule,
            )
            self._write(_samples_of(unit), samples)
            answers = (json.loads(line).get("answered_ns", 0) for line in samples.splitlines())
            last = min(max(answers, default=0) / 1e9, ends + load.answer_timeout)
            ends = max(ends, last)
            loaded = replace(unit, ends=ends, offset_ns=offset_ns())
            self._world.write(f"{self.name}/units/{name}.json", asdict(loaded))

    def _links_of(self, text: str) -> tuple[LinkSettings, LinkSettings]:
        """The links to and from the machine whose address an endpoint was told."""
        there = next(
            (spec for spec in self._plan.machines if spec != self._spec and spec.address in text),
            None,
        )
        loss = self._world.settings.loss
        if there is None:
            return LinkSettings(loss_percent=loss), LinkSettings()
        forward = self._link(self._spec, there)
        return replace(forward, loss_percent=max(forward.loss_percent, loss)), self._link(
            there, self._spec
        )

    def _link(self, source: MachineSpec, destination: MachineSpec) -> LinkSettings:
        """What is in force between two machines."""
        for link in self._world.links():
            if link.source in {source.name, source.tier} and link.destination in {
                destination.name,
                destination.tier,
            }:
                return link.settings
        return LinkSettings()
