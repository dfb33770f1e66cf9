"""A user's own two programs: any that can be started, and print a JSON object for each request."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from continuum.benchmark.contract import (
    RUN_FOLDER,
    Endpoint,
    Load,
    Locating,
    Misfit,
    Transport,
    Worker,
)
from continuum.benchmark.sample_lines import MONOTONIC_TIMES, RESERVED
from continuum.errors import UsageError
from continuum.images.recipe import (
    PYTHON_FOLDER,
    RUNTIME_FOLDER,
    DebianPackages,
    InstallStep,
    PythonPackages,
)
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.secret import Secret, without_logins
from continuum.software.contract import ProcessSpec
from continuum_runtime.open_loop import ARRIVALS_FILE

if TYPE_CHECKING:
    import pyarrow as pa

    from continuum.experiment.model import Benchmark, Experiment

FILES_FOLDER = "/opt/continuum/command"
"""Where the user's files lie in machines, and where the programs start."""

FILES_LIMIT = 64 * 2**20
FIRST_PORT = 20_000
PORTS = 40_000
START_TIMEOUT = 600.0

_DEBIAN_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,62}")
_OUR_PREFIX = "CONTINUUM_"
_OF_PYTHON = {"PYTHONPATH": f"{RUNTIME_FOLDER}:{PYTHON_FOLDER}", "PYTHONUNBUFFERED": "1"}
_PROGRAMS = (b"\x7fELF", b"#!")
_NOT_COPIED = frozenset({"__pycache__", ".git"})


def _arguments(value: object) -> object:
    """A list of arguments, or one text that is split as a shell would split it."""
    if isinstance(value, str):
        return tuple(shlex.split(value))
    return tuple(value) if isinstance(value, list) else value


Arguments = Annotated[
    tuple[str, ...], BeforeValidator(_arguments, json_schema_input_type=str | tuple[str, ...])
]


class CommandSettings(PluginSettings):
    """The table `[benchmark.command]`."""

    endpoint: Arguments = Field(
        min_length=1, description="The endpoint's program and its arguments, a list or one text."
    )
    worker: Arguments = Field(
        default=(), description="The worker's; absent when endpoints need none."
    )
    worker_ready: Literal["started", "file", "port"] = Field(
        default="started",
        description="When a worker can take requests: once started, once it made the file named "
        "in CONTINUUM_READY_FILE, or once its TCP port takes connections.",
    )
    port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="The worker's port; absent: one of its own for each worker.",
    )
    files: Path | None = Field(
        default=None,
        description="A file or a folder that is copied to the machines; programs start in it.",
    )
    environment: dict[str, Secret] = Field(
        default_factory=dict, description="Variables for both programs."
    )
    environment_from: Path | None = Field(
        default=None,
        description="A file with further variables, in lines `NAME=value`; of `NAME` alone the value "
        "is the caller's.",
    )
    debian_packages: tuple[str, ...] = Field(
        default=(), description="Debian packages that the programs need."
    )
    python_packages: tuple[str, ...] = Field(
        default=(), description="Python packages that the programs need."
    )
    protocol_bytes: int | None = Field(
        default=None,
        ge=0,
        le=65536,
        description="Bytes that the programs' protocol adds to each message on a TCP connection "
        "that stays open; with it the expected latency stands beside the measured one.",
    )
    columns: dict[str, Literal["text", "integer", "number", "boolean"]] = Field(
        default_factory=dict, description="Columns of your own in the samples, with their types."
    )

    @field_validator("environment")
    @classmethod
    def _free_names(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, text in value.items():
            if not name or "=" in name or "\0" in name or name.startswith(_OUR_PREFIX):
                raise ValueError(f'"{name[:40]}" cannot be set; {_OUR_PREFIX}… are ours')
            if "\0" in text.open():
                raise ValueError(f'the value of "{name[:40]}" holds a NUL character')
        return value

    @field_validator("debian_packages")
    @classmethod
    def _package_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _DEBIAN_PACKAGE.fullmatch(name):
                raise ValueError(f'"{name[:40]}" is not the name of a Debian package')
        return value

    @field_validator("python_packages")
    @classmethod
    def _requirements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for requirement in value:
            if not requirement or requirement.startswith("-"):
                raise ValueError(f'"{requirement[:40]}" is not a requirement, as in "flask>=3"')
            if without_logins(requirement) != requirement:
                raise ValueError(
                    f'"{without_logins(requirement)[:80]}" holds a login, which others would see; '
                    "give it to pip, as by PIP_INDEX_URL or ~/.netrc"
                )
        return value

    @field_validator("columns")
    @classmethod
    def _column_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _COLUMN.fullmatch(name):
                raise ValueError(f'"{name[:40]}" is not a name of small letters, digits and _')
            if name in (*RESERVED, *MONOTONIC_TIMES):
                raise ValueError(f'"{name}" is a column that every sample has')
        return value


class CommandApplication(Locating):
    """Starts the programs, hands them what they need to know, and takes their lines."""

    name: ClassVar[str] = "command"
    settings_type: ClassVar[type[PluginSettings]] = CommandSettings

    def misfit(self, experiment: Experiment) -> Misfit | None:
        """Why the experiment does not fit; None when it does."""
        benchmark = experiment.benchmark
        assert benchmark is not None
        files, tier = self._settings.files, benchmark.endpoints
        if files is not None and not files.exists():
            return self._not_here("files", f'there is no "{files}"')
        if tier not in experiment.tiers or experiment.tiers[tier].machines == 0:
            return Misfit(f'it needs at least one machine in the tier "{tier}"')
        if experiment.worker_tier == tier:
            if self._settings.worker:
                reason = f'a worker is given, but the tier "{tier}" is also that of the endpoints'
                return Misfit(reason)
            return None
        problem = self._worker_problem(experiment.worker_tier, benchmark)
        problem = problem or self._variables_problem(experiment)
        return None if problem is None else Misfit(problem)

    def _variables_problem(self, experiment: Experiment) -> str | None:
        if not experiment.workers_in_containers or experiment.in_a_cluster:
            return None
        for name, value in self._settings.environment.items():
            if len(value.open().splitlines()) > 1:
                return f'a container without a cluster gets no variable of several lines, as "{name[:40]}"'
        return None

    def _not_here(self, key: str, problem: str) -> Misfit:
        """A file that is not on this host may be on another."""
        return Misfit(f"{key}: {problem}", ("benchmark", self.name, key), lacking=True)

    def _worker_problem(self, tier: str, benchmark: Benchmark) -> str | None:
        if not self._settings.worker:
            return (
                f'no worker is given for the tier "{tier}"; '
                f'set benchmark.workers = "{benchmark.endpoints}" when endpoints need none'
            )
        if self._settings.port is not None and benchmark.workers_per_machine > 1:
            return "workers on one machine cannot share a port; leave `port` out"
        return None

    def install(self) -> tuple[InstallStep, ...]:
        """What starts the programs, and the packages that they need."""
        return (
            runtime_tree(),
            DebianPackages(("python3", *self._settings.debian_packages)),
            PythonPackages(self._settings.python_packages),
        )

    def worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> ProcessSpec:
        """The user's worker, under our launcher."""
        folder = f"{RUN_FOLDER}/{worker.name}"
        config = {
            "arguments": list(self._settings.worker),
            "ready": self._settings.worker_ready,
            "address": worker.address,
            "port": self._port(worker),
        }
        return self._process(
            ProcessSpec(
                worker.name,
                worker.machine,
                (),
                cpu=worker.cpu,
                memory=worker.memory,
                port=self._port(worker),
            ),
            folder,
            self._told_worker(worker, endpoints),
            config,
        )

    def _told_worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> dict[str, str]:
        return {
            "CONTINUUM_ROLE": "worker",
            "CONTINUUM_NAME": worker.name,
            "CONTINUUM_NUMBER": str(worker.number),
            "CONTINUUM_ENDPOINTS": ",".join(endpoint.name for endpoint in endpoints),
            **self._about_worker(worker),
        }

    def endpoint(self, endpoint: Endpoint, load: Load) -> ProcessSpec:
        """The user's endpoint, under our launcher."""
        warmup, requests = load.requests
        environment = {
            "CONTINUUM_ROLE": "endpoint",
            "CONTINUUM_NAME": endpoint.name,
            "CONTINUUM_NUMBER": str(endpoint.number),
            "CONTINUUM_REPETITION": str(load.repetition),
            "CONTINUUM_SEED": str(load.seed),
            "CONTINUUM_FREQUENCY": repr(float(load.frequency)),
            "CONTINUUM_ARRIVALS": load.arrivals,
            "CONTINUUM_ARRIVALS_FILE": f"{load.folder}/{ARRIVALS_FILE}",
            "CONTINUUM_WARMUP": repr(float(load.warmup)),
            "CONTINUUM_DURATION": repr(float(load.duration)),
            "CONTINUUM_WARMUP_REQUESTS": str(warmup),
            "CONTINUUM_REQUESTS": str(requests),
            "CONTINUUM_ANSWER_TIMEOUT": repr(float(load.answer_timeout)),
            **self._about_worker(endpoint.worker),
        }
        config = {
            "arguments": list(self._settings.endpoint),
            **self._awaited(endpoint.worker),
            "load": {
                "frequency": load.frequency,
                "warmup": warmup,
                "requests": requests,
                "answer_timeout": load.answer_timeout,
                "start_timeout": START_TIMEOUT,
                "arrivals": load.arrivals_file,
            },
        }
        return self._process(
            ProcessSpec(
                f"{endpoint.name}-{load.repetition}",
                endpoint.machine,
                (),
                cpu=endpoint.cpu,
                memory=endpoint.memory,
            ),
            load.folder,
            environment,
            config,
            load.files,
        )

    def columns(self) -> pa.Schema:
        """What the settings name, and what went wrong."""
        import pyarrow as pa  # noqa: PLC0415  slow to import; reading an experiment needs none

        types = {
            "text": pa.string(),
            "integer": pa.int64(),
            "number": pa.float64(),
            "boolean": pa.bool_(),
        }
        own = [pa.field(name, types[kind]) for name, kind in self._settings.columns.items()]
        if "error" not in self._settings.columns:
            own.append(pa.field("error", pa.string()))
        return pa.schema(own)

    def complete(self, sample: dict[str, Any]) -> Mapping[str, Any]:
        """Values of the named columns; null where a program wrote something of another type."""
        kinds = {"error": "text", **self._settings.columns}
        return {name: _typed(sample.get(name), kind) for name, kind in kinds.items()}

    def agreement(self, sample: Mapping[str, Any]) -> bool | None:
        """The column `agrees`, when the settings name one."""
        agrees = sample.get("agrees")
        return agrees if isinstance(agrees, bool) else None

    def transport(self) -> Transport | None:
        """What the settings say of the protocol; None when they say nothing."""
        size = self._settings.protocol_bytes
        return None if size is None else Transport(protocol_bytes=size)

    def expected_requests(self, load: Load) -> int | None:
        """All of the load: a request that no line speaks of is lost."""
        return sum(load.requests)

    @cached_property
    def _settings(self) -> CommandSettings:
        assert isinstance(self.settings, CommandSettings)
        return self.settings

    @cached_property
    def _files(self) -> dict[str, bytes]:
        """Content of the user's files by their absolute path in machines.

        Raises:
            UsageError: they cannot be read, or are too many bytes.
        """
        source = self._settings.files
        if source is None:
            return {}
        paths = [source] if source.is_file() else sorted(source.rglob("*"))
        base = source.parent if source.is_file() else source
        found: dict[str, bytes] = {}
        size = 0
        for path in paths:
            relative = path.relative_to(base)
            if not path.is_file() or not _NOT_COPIED.isdisjoint(relative.parts):
                continue
            if any(_is_results(base / folder) for folder in list(relative.parents)[:-1]):
                continue
            size += path.stat().st_size
            if size > FILES_LIMIT:
                raise UsageError(
                    f"the files to copy are larger than {FILES_LIMIT // 2**20} MiB",
                    where=f"benchmark.command.files: {source}",
                    hint="put large data into a package, or fetch it in the program",
                )
            try:
                found[f"{FILES_FOLDER}/{relative.as_posix()}"] = path.read_bytes()
            except OSError as error:
                raise UsageError(
                    f"{path} cannot be read: {error.strerror}",
                    where=f"benchmark.command.files: {source}",
                ) from error
        return found

    def _port(self, worker: Worker) -> int:
        return self._settings.port or FIRST_PORT + (worker.number - 1) % PORTS

    def _awaited(self, worker: Worker | None) -> dict[str, object]:
        """What the endpoint's launcher waits for; a worker that is a process tells by itself."""
        del worker
        return {}

    def _about_worker(self, worker: Worker | None) -> dict[str, str]:
        if worker is None:
            return {}
        return {
            "CONTINUUM_WORKER": worker.name,
            "CONTINUUM_WORKER_ADDRESS": worker.address,
            "CONTINUUM_WORKER_PORT": str(self._port(worker)),
        }

    def _process(
        self,
        process: ProcessSpec,
        folder: str,
        environment: Mapping[str, str],
        config: Mapping[str, Any],
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> ProcessSpec:
        path = f"{folder}/config.json"
        secrets = self._settings.environment
        whole = {
            **config,
            "folder": folder,
            "executable": [
                name for name, content in self._files.items() if content.startswith(_PROGRAMS)
            ],
        }
        return ProcessSpec(
            name=process.name,
            machine=process.machine,
            arguments=("python3", "-m", "continuum_runtime.launch", path),
            environment={
                **{name: value for name, value in _OF_PYTHON.items() if name not in secrets},
                "CONTINUUM_FOLDER": folder,
                "CONTINUUM_READY_FILE": f"{folder}/ready",
                **environment,
            },
            secrets=secrets,
            files={**self._files, **files, path: json.dumps(whole, indent=2).encode() + b"\n"},
            cpu=process.cpu,
            memory=process.memory,
            port=process.port,
            ready_file=f"{folder}/ready",
            working_directory=FILES_FOLDER if self._files else folder,
        )


def _is_results(folder: Path) -> bool:
    """Whether a run left this folder: `results/` may lie beside the programs."""
    return (folder / "run.json").is_file() and (folder / "report.html").is_file()


def _typed(value: object, kind: str) -> object:
    """The value when it is of that kind; a text of anything else when a text is wanted."""
    if value is None:
        return None
    if kind == "text":
        text = value if isinstance(value, str) else json.dumps(value)
        return text.encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return value if kind == "boolean" else None
    if kind == "integer":
        return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None
    if kind == "number" and isinstance(value, int | float):
        with suppress(OverflowError):
            return float(value)
    return None
