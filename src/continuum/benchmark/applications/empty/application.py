"""The application `empty`: its settings, what it refuses, and what its samples hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.images import program_image
from continuum.artifacts.store import ArtifactStore
from continuum.benchmark.applications.empty import capacity
from continuum.benchmark.applications.empty.driver import PodDriver
from continuum.benchmark.applications.empty.pods import Deployment, Wish
from continuum.benchmark.contract import Driven, Locating, Misfit
from continuum.events import Events
from continuum.experiment.model import CLUSTER_MANAGERS
from continuum.experiment.units import PositiveSeconds
from continuum.images.recipe import ContainerImages, InstallStep
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.providers.contract import PluginSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from continuum.benchmark.statistics import Quantity
    from continuum.experiment.model import Experiment
    from continuum.images.containers import ContainerImage
    from continuum.infrastructure.plan import InfrastructurePlan


class EmptySettings(PluginSettings):
    """The table `[benchmark.empty]`."""

    sleep_time: PositiveSeconds = Field(
        default=60.0, description="How long a pod lives, from when it has been started."
    )
    deployment: Deployment = Field(
        default="pod",
        description="`pod`: all pods by one object; `container`: one pod on each machine, with "
        "all of its containers; `file`: a file for each pod, in one call; `call`: a call for each "
        "pod.",
    )
    pods: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Pods on all machines together; absent: `workers_per_machine` on each.",
    )
    timeout: PositiveSeconds | None = Field(
        default=None,
        description="After this, from the last call on, a pod that is not ready counts as lost; "
        "absent: a minute, and a second for each pod.",
    )
    runtime: Literal["runc", "kata-qemu", "kata-fc"] = Field(
        default="runc", description="What starts containers; others than `runc` do not run yet."
    )
    runtime_filesystem: Literal["overlayfs", "devmapper"] = Field(
        default="overlayfs",
        description="Where containers' files lie; others than `overlayfs` do not run yet.",
    )


class Empty(Locating, Driven):
    """Pods that sleep. What is measured is the cluster that brings them up."""

    name: ClassVar[str] = "empty"
    settings_type: ClassVar[type[PluginSettings]] = EmptySettings

    def misfit(self, experiment: Experiment) -> Misfit | None:
        """Why the experiment does not fit; what the nodes cannot hold is nothing wrong as such."""
        return self._not_in_this_version() or self._wrong(experiment) or self._too_much(experiment)

    def _not_in_this_version(self) -> Misfit | None:
        settings = self._settings
        if settings.runtime != "runc":
            reason = f"runtime {settings.runtime} (Kata containers) is not part of this version"
            return self._lacking("runtime", reason, "leave it out")
        if settings.runtime_filesystem != "overlayfs":
            reason = f"runtime_filesystem {settings.runtime_filesystem} is not part of this version"
            return self._lacking("runtime_filesystem", reason, "leave it out")
        return None

    def _lacking(self, key: str, reason: str, hint: str) -> Misfit:
        return Misfit(reason, ("benchmark", self.name, key), hint, lacking=True)

    def _wrong(self, experiment: Experiment) -> Misfit | None:
        assert experiment.software is not None
        if not experiment.in_a_cluster:
            managers = " or ".join(sorted(CLUSTER_MANAGERS))
            reason = f"its pods need a cluster: set software.manager to {managers}"
            return Misfit(reason, ("software", "manager"))
        if not experiment.worker_machines:
            path = ("tiers", experiment.worker_tier, "machines")
            reason = "there is no machine for pods beside the control plane"
            return Misfit(reason, path, "one more machine")
        if self._settings.pods is not None and self._settings.deployment == "container":
            reason = "`pods` is for one container in each: leave it out with deployment = container"
            return Misfit(reason, ("benchmark", self.name, "pods"))
        return None

    def _too_much(self, experiment: Experiment) -> Misfit | None:
        settings = self._settings
        assert experiment.benchmark is not None
        each = experiment.benchmark.workers_per_machine
        if settings.pods is not None:
            each = -(-settings.pods // len(experiment.worker_machines))
        reason = capacity.problem(experiment, each, in_one_pod=settings.deployment == "container")
        if reason is None:
            return None
        if settings.pods is not None:
            return self._lacking("pods", reason, "fewer or smaller pods, or more machines")
        path = ("benchmark", "workers_per_machine")
        return Misfit(reason, path, "fewer or smaller pods, or larger machines", lacking=True)

    def install(self) -> tuple[InstallStep, ...]:
        """What notes resources and makes calls, and the pods' image."""
        return (runtime_tree(), ContainerImages((self.container_image(),)))

    def container_image(self) -> ContainerImage:
        """One static program: busybox, to sleep."""
        return program_image(ArtifactStore(Events()), Wanted("busybox", "debian"))

    def driver(self, experiment: Experiment, plan: InfrastructurePlan) -> PodDriver:
        """Asks for the pods, and follows each of them through the cluster."""
        del plan
        benchmark, control = experiment.benchmark, experiment.control_machine
        assert benchmark is not None
        assert control is not None
        workers = experiment.worker_machines
        whole = self._settings.deployment == "container"
        pods = self._settings.pods or benchmark.workers_per_machine * len(workers)
        wish = Wish(
            deployment=self._settings.deployment,
            machines=workers,
            pods=len(workers) if whole else pods,
            containers=benchmark.workers_per_machine if whole else 1,
            image=self.container_image().reference,
            sleep=self._settings.sleep_time,
            cpu=benchmark.worker_cpu,
            memory=benchmark.worker_memory,
            shares=capacity.share_of_host(
                experiment.tiers[experiment.worker_tier], *capacity.host_size()
            ),
            # EdgeCore asks the cloud for the same things once for each pod: when many pods come at
            # once some of the answers are lost, and asked for again only after a minute.
            token=experiment.software is None or experiment.software.manager != "kubeedge",
            pinned=set(experiment.node_machines) - {control} != set(workers),
        )
        limit = self._settings.timeout or 60.0 + wish.total
        return PodDriver(control=control, wish=wish, limit=limit)

    @property
    def noun(self) -> str:
        """A pod, or one of a pod's containers."""
        return "container" if self._settings.deployment == "container" else "pod"

    def quantities(self) -> tuple[Quantity, ...]:
        """The whole, and its steps."""
        from continuum.benchmark.applications.empty.quantities import QUANTITIES  # noqa: PLC0415

        return QUANTITIES

    def columns(self) -> pa.Schema:
        """The pod, and its times beside those that every sample has."""
        import pyarrow as pa  # noqa: PLC0415  slow to import; reading an experiment needs none

        texts = ("pod", "container", "node")
        times = ("created_ns", "scheduled_ns", "sandbox_ns", "ready_ns")
        return pa.schema(
            [
                *(pa.field(name, pa.string()) for name in texts),
                *(pa.field(name, pa.int64()) for name in times),
            ]
        )

    @property
    def _settings(self) -> EmptySettings:
        assert isinstance(self.settings, EmptySettings)
        return self.settings
