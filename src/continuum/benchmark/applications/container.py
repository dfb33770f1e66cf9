"""A user's own container image as the worker, and their own program as the endpoint."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from continuum.benchmark.applications.command import (
    Arguments,
    CommandApplication,
    CommandSettings,
)
from continuum.benchmark.contract import Misfit
from continuum.software.contract import ProcessSpec
from continuum.software.serverless import openfaas

if TYPE_CHECKING:
    from continuum.benchmark.contract import Endpoint, Transport, Worker
    from continuum.experiment.model import Benchmark, Experiment
    from continuum.images.containers import ContainerImage
    from continuum.infrastructure.providers.contract import PluginSettings


class ContainerSettings(CommandSettings):
    """The table `[benchmark.container]`."""

    archive: Path | None = Field(
        default=None,
        description="The worker's image as a tar file, as `docker save` writes it, or an OCI "
        "layout.",
    )
    image: str = Field(
        default="",
        description="The worker's image in a registry, with a tag or a digest; fetched once.",
    )
    worker: Arguments = Field(
        default=(), description="Program and arguments in place of those that the image names."
    )
    worker_ready: Literal["started", "port"] = Field(
        default="port",
        description="When a worker can take requests: once its TCP port takes connections, or "
        "once started.",
    )
    files: Path | None = Field(
        default=None,
        description="A file or a folder that is copied to the endpoints; they start in it.",
    )
    debian_packages: tuple[str, ...] = Field(
        default=(), description="Debian packages that the endpoint needs."
    )
    python_packages: tuple[str, ...] = Field(
        default=(), description="Python packages that the endpoint needs."
    )

    @field_validator("image")
    @classmethod
    def _named_for_ever(cls, value: str) -> str:
        # Only who uses this application has time for it.
        from continuum.images.foreign import problem_with_reference  # noqa: PLC0415

        problem = problem_with_reference(value) if value else None
        if problem:
            raise ValueError(problem)
        return value


class ContainerApplication(CommandApplication):
    """The image needs neither Python nor anything of ours: it is told by its environment."""

    name: ClassVar[str] = "container"
    settings_type: ClassVar[type[PluginSettings]] = ContainerSettings

    def misfit(self, experiment: Experiment) -> Misfit | None:
        """Why the experiment does not fit; None when it does."""
        model = experiment.software.execution_model if experiment.software else "process"
        if not experiment.workers_in_containers:
            wanted = '"container" or "function"'
            return Misfit(f'it needs software.execution_model = {wanted}, not "{model}"')
        if experiment.workers_as_functions and self._settings.worker:
            return Misfit("a function starts what its image names; leave `worker` out")
        assert experiment.benchmark is not None
        if experiment.worker_tier == experiment.benchmark.endpoints:
            return Misfit(
                f'its workers need a tier of their own; "{experiment.worker_tier}" is that of the '
                "endpoints"
            )
        return super().misfit(experiment) or self._image_misfit()

    def _worker_problem(self, tier: str, benchmark: Benchmark) -> str | None:
        del tier
        if self._settings.port is not None and benchmark.workers_per_machine > 1:
            return "workers on one machine cannot share a port; leave `port` out"
        return None

    def _image_misfit(self) -> Misfit | None:
        from continuum.images.foreign import problem_with_archive  # noqa: PLC0415  as above

        archive = self._own.archive
        if (archive is None) == (not self._own.image):
            return Misfit("it needs one image: either `archive` or `image`")
        problem = problem_with_archive(archive) if archive is not None else None
        return self._not_here("archive", problem) if problem else None

    def container_image(self) -> ContainerImage:
        """The user's image, written again under a name of ours."""
        from continuum.images import foreign  # noqa: PLC0415  as above

        if self._own.archive is not None:
            return foreign.of_archive(self._own.archive)
        return foreign.of_registry(self._own.image)

    def function_image(self) -> ContainerImage:
        """The same image: it serves HTTP on port 8080, with `/_/health`."""
        return self.container_image()

    def function_transport(self) -> Transport | None:
        """What the settings say of the protocol; None when they say nothing."""
        return self.transport()

    def worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> ProcessSpec:
        """The image's program, or the one that the settings name, without a launcher."""
        return ProcessSpec(
            name=worker.name,
            machine=worker.machine,
            arguments=self._settings.worker,
            environment={
                **self._told_worker(worker, endpoints),
                **(
                    {"CONTINUUM_WORKER_PORT": str(openfaas.FUNCTION_PORT)} if worker.gateway else {}
                ),
            },
            secrets=self._settings.environment,
            cpu=worker.cpu,
            memory=worker.memory,
            working_directory="",
            # A function's port is its own, and reached through its gateway only.
            port=None if worker.gateway else self._port(worker),
        )

    def _about_worker(self, worker: Worker | None) -> dict[str, str]:
        told = super()._about_worker(worker)
        if worker is None or not worker.gateway:
            return told
        return {
            **told,
            "CONTINUUM_WORKER_ADDRESS": worker.gateway,
            "CONTINUUM_WORKER_PORT": str(openfaas.PORT),
            "CONTINUUM_WORKER_URL": openfaas.function_url(worker.gateway, worker.name),
        }

    def _awaited(self, worker: Worker | None) -> dict[str, object]:
        if worker is None or worker.gateway or self._settings.worker_ready != "port":
            return {}
        return {"ready": "port", "address": worker.address, "port": self._port(worker)}

    @cached_property
    def _own(self) -> ContainerSettings:
        assert isinstance(self.settings, ContainerSettings)
        return self.settings
