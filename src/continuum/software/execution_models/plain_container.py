"""A worker as a container on a machine without a cluster, under the name that it has as a process.

A systemd unit runs `ctr` or `docker` in the foreground, so that state, log and end are the unit's.
The container has the machine's network and sees the worker's own folders; its limits are those of
the process model, enforced on the container. Each start has a container of its own, which is
removed when its unit ends, however that comes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

from continuum.errors import StepFailed
from continuum.images.container_runtime import (
    DOCKER,
    INIT,
    NAMESPACE,
    containerd_tree,
    docker_tree,
)
from continuum.images.recipe import CONTAINERD, DebianPackages
from continuum.machine import Command
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models import secret_variables
from continuum.software.execution_models.mounts import mounted_folders
from continuum.software.execution_models.process import (
    QUOTA_PERIOD_MILLISECONDS,
    Process,
    Program,
    literally,
    unit_name,
)

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.machine import Machine

LOAD_LIMIT = 300.0
"""Seconds for Docker to take over an image that containerd has."""


class _Runtime(Protocol):
    """What runs containers on a machine."""

    unit: str

    def install(self) -> tuple[InstallStep, ...]: ...

    def prepare(self, machine: Machine, image: str) -> None: ...

    def run(self, name: str, process: ProcessSpec) -> tuple[str, ...]: ...

    def remove(self, name: str) -> tuple[str, ...]: ...


class PlainContainer(Process):
    """Containers by containerd or Docker, as `software.runtime` says."""

    name: ClassVar[str] = "container"

    def __init__(
        self,
        experiment: Experiment | None = None,
        machines: Mapping[str, Machine] | None = None,
    ) -> None:
        super().__init__(experiment, machines)
        software = experiment.software if experiment else None
        self._runtime = _RUNTIMES[software.runtime if software else "containerd"]

    def install(self) -> tuple[InstallStep, ...]:
        """The runtime; the images themselves are the application's."""
        return self._runtime.install()

    def start(self, machine: Machine, process: ProcessSpec) -> None:
        """Put its files and start it; replaces one of the same name. Does not wait for it.

        Raises:
            StepFailed: it has no image, or the runtime does not take it.
        """
        if not process.image:
            raise StepFailed(
                f'"{process.name}" has no container image',
                where=f"{machine.name}: {unit_name(process)}",
                hint="the application does not offer one; software.execution_model = "
                '"process" needs none',
            )
        self._runtime.prepare(machine, process.image)
        super().start(machine, process)

    def program(self, process: ProcessSpec) -> Program:
        """The runtime's client; the container goes when the client does."""
        # Filled in by systemd, with a number of its own for every start.
        name = f"{unit_name(process).removesuffix('.service')}-${{INVOCATION_ID}}"
        folders = tuple(map(literally, mounted_folders(process)))
        return Program(
            arguments=tuple(_literally(word, name) for word in self._runtime.run(name, process)),
            properties={"Wants": self._runtime.unit, "After": self._runtime.unit},
            before=((("/bin/mkdir", "-p", *folders),) if folders else ()),
            afterwards=(
                "/usr/bin/python3",
                "-I",
                "-S",
                "-c",
                _QUIETLY,
                *self._runtime.remove(name),
            ),
        )

    def secret_variables(self, process: ProcessSpec) -> bytes:
        """The content of the file from which the runtime's client takes them."""
        return secret_variables.for_a_client(process)


# Where all is well there is nothing to remove any more, and the worker's log is no place to say so.
_QUIETLY = """\
import subprocess, sys
for command in sys.argv[1:]:
    subprocess.run(command.split(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


class _Containerd:
    unit = "containerd.service"

    def install(self) -> tuple[InstallStep, ...]:
        return (DebianPackages((*CONTAINERD, "tini")), containerd_tree(""))

    def prepare(self, machine: Machine, image: str) -> None:
        """Nothing: a missing image is in the client's own words."""

    def run(self, name: str, process: ProcessSpec) -> tuple[str, ...]:
        arguments = [_CTR, f"--namespace={NAMESPACE}", "run", "--rm", "--net-host"]
        if process.cpu is not None:
            arguments += [
                f"--cpu-period={_PERIOD}",
                f"--cpu-quota={_quota(process.cpu)}",
            ]
        if process.memory is not None:
            arguments.append(f"--memory-limit={process.memory}")
        mounts = [
            f"type=bind,src={path},dst={path},options=rbind:rw" for path in mounted_folders(process)
        ]
        program = process.arguments
        if program:
            # A program that is the first of its container is not ended by a signal unless it
            # cares for it.
            mounts.append(f"type=bind,src={INIT},dst={_INIT_INSIDE},options=bind:ro")
            program = (_INIT_INSIDE, "--", *program)
        if process.working_directory:
            arguments.append(f"--cwd={process.working_directory}")
        return (
            *arguments,
            *(f"--mount={mount}" for mount in mounts),
            *_variables(process),
            process.image,
            name,
            *program,
        )

    def remove(self, name: str) -> tuple[str, ...]:
        what = ("tasks delete --force", "containers delete", "snapshots delete")
        return tuple(f"{_CTR} --namespace={NAMESPACE} {each} {name}" for each in what)


class _Docker:
    unit = "docker.service"

    def __init__(self) -> None:
        self._alone: dict[str, threading.Lock] = {}

    def install(self) -> tuple[InstallStep, ...]:
        return (DebianPackages((*CONTAINERD, "docker.io")), containerd_tree(""), docker_tree())

    def prepare(self, machine: Machine, image: str) -> None:
        """Hand Docker the image that containerd has, unless it has it.

        Raises:
            StepFailed: neither has it.
        """
        known = Command((DOCKER, "image", "inspect", "--format={{.Id}}", image))
        # Several workers of a machine may need it at once.
        with self._alone.setdefault(machine.name, threading.Lock()):
            if machine.run(known).exit_code == 0:
                return
            export = (_CTR, f"--namespace={NAMESPACE}", "images", "export", _ARCHIVE, image)
            load = (DOCKER, "load", "--quiet", f"--input={_ARCHIVE}")
            for command in (export, load):
                machine.run(Command(command, timeout=LOAD_LIMIT)).check(
                    f"Docker cannot take over image {image}"
                )
            machine.run(Command(("rm", "-f", _ARCHIVE))).check()

    def run(self, name: str, process: ProcessSpec) -> tuple[str, ...]:
        arguments = [DOCKER, "run", "--rm", "--init", "--pull=never", "--network=host"]
        arguments += [f"--name={name}", "--log-driver=none"]
        if process.cpu is not None:
            arguments += [
                f"--cpu-period={_PERIOD}",
                f"--cpu-quota={_quota(process.cpu)}",
            ]
        if process.memory is not None:
            arguments += [f"--memory={process.memory}", f"--memory-swap={process.memory}"]
        if process.working_directory:
            arguments.append(f"--workdir={process.working_directory}")
        first, *others = process.arguments or ("",)
        return (
            *arguments,
            *(
                f"--mount=type=bind,source={path},target={path}"
                for path in mounted_folders(process)
            ),
            *_variables(process),
            *((f"--entrypoint={first}",) if first else ()),
            process.image,
            *others,
        )

    def remove(self, name: str) -> tuple[str, ...]:
        return (f"{DOCKER} rm --force {name}",)


_RUNTIMES: dict[str, _Runtime] = {"containerd": _Containerd(), "docker": _Docker()}
_ARCHIVE = "/var/lib/docker/continuum-image.tar"
_CTR = "/usr/bin/ctr"
_INIT_INSIDE = "/continuum-init"
_PERIOD = QUOTA_PERIOD_MILLISECONDS * 1000


def _variables(process: ProcessSpec) -> tuple[str, ...]:
    """Arguments that tell either client which variables the container has."""
    file = secret_variables.path_of(process)
    return (
        *((f"--env-file={file}",) if process.secrets else ()),
        *(f"--env={name}={value}" for name, value in process.environment.items()),
    )


def _literally(word: str, but: str) -> str:
    """Nothing in the word is for systemd to fill in, but this."""
    return but.join(map(literally, word.split(but)))


def _quota(cores: float) -> int:
    """Microseconds of each period; the kernel takes no less than a thousand."""
    return max(1000, round(cores * _PERIOD))
