"""The resource manager `kubeedge`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from continuum.errors import ContinuumError
from continuum.machine import Command
from continuum.software.capabilities import may_be_slow
from continuum.software.configure import ROLES
from continuum.software.contract import MetricsTarget, RolePlay
from continuum.software.managers.kubeedge import install, settings
from continuum.software.managers.kubernetes import kubeadm
from continuum.software.managers.kubernetes.manager import Kubernetes

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
    from continuum.machine import Machine
    from continuum.software.managers.kubernetes.install import Versions

_JOIN_SECONDS = {False: 90, True: 360}
"""For each of CloudCore and an edge machine; the second where machines may be slow."""


class KubeEdge(Kubernetes):
    """Kubernetes' control plane and CloudCore in the cloud, EdgeCore on all other machines."""

    name: ClassVar[str] = "kubeedge"

    def skip(self, experiment: Experiment) -> str | None:
        """It needs a machine for its control plane, and another that is not of the cloud."""
        reason = super().skip(experiment)
        if reason is None and not self.edge_machines(experiment):
            return "it needs a machine at the edge beside its control plane"
        return reason

    def install(self, experiment: Experiment) -> tuple[InstallStep, ...]:
        """Kubernetes of the version that the experiment asks for, and KubeEdge."""
        return (*super().install(experiment), *install.steps())

    def versions(self, experiment: Experiment) -> Mapping[str, str]:
        """Kubernetes', and KubeEdge's."""
        return {**super().versions(experiment), "kubeedge": install.version()}

    def metrics(
        self, experiment: Experiment, plan: InfrastructurePlan
    ) -> tuple[MetricsTarget, ...]:
        """The cluster's, and CloudCore's. EdgeCore answers on its own machine alone."""
        control = self.control_machine(experiment)
        assert control is not None
        return (
            *super().metrics(experiment, plan),
            MetricsTarget("kubeedge", control, "127.0.0.1", settings.CLOUDCORE_METRICS_PORT),
        )

    def nodes(self, experiment: Experiment) -> tuple[str, ...]:
        """The control plane's machine, and all others of its tier when that is the cloud."""
        cloud = experiment.machine_names("cloud") if "cloud" in experiment.tiers else ()
        control = experiment.control_machine
        return tuple(name for name in experiment.node_machines if name in cloud or name == control)

    def edge_machines(self, experiment: Experiment) -> tuple[str, ...]:
        """Names of the machines that run EdgeCore: all nodes that kubeadm does not make."""
        by_kubeadm = self.nodes(experiment)
        return tuple(name for name in experiment.node_machines if name not in by_kubeadm)

    def services(self, experiment: Experiment) -> Mapping[str, tuple[str, ...]]:
        """EdgeCore speaks with devices through a broker on its machine."""
        return {"mqtt": self.edge_machines(experiment)}

    def configure(self, experiment: Experiment, plan: InfrastructurePlan) -> tuple[RolePlay, ...]:
        """Kubernetes; then CloudCore, which comes up meanwhile; then the edge joins."""
        edge = self.edge_machines(experiment)
        control = experiment.control_machine
        assert control is not None
        return (
            *super().configure(experiment, plan),
            RolePlay(
                "kubeedge_cloud",
                (control,),
                ROLES,
                variables={
                    "kubeedge_cloud_admin": kubeadm.ADMIN,
                    "kubeedge_cloud_namespace": settings.NAMESPACE,
                    "kubeedge_cloud_seconds": _JOIN_SECONDS[may_be_slow(experiment)],
                    "kubeedge_cloud_secret": settings.TOKEN_SECRET,
                    "kubeedge_cloud_key": settings.TOKEN_KEY,
                },
            ),
            RolePlay(
                "kubeedge_edge",
                edge,
                ROLES,
                variables={
                    "kubeedge_edge_control": control,
                    "kubeedge_edge_program": install.EDGE_PROGRAM,
                    "kubeedge_edge_seconds": _JOIN_SECONDS[may_be_slow(experiment)],
                },
            ),
        )

    def about_node(
        self,
        experiment: Experiment,
        plan: InfrastructurePlan,
        versions: Versions,
        spec: MachineSpec,
    ) -> dict[str, Any]:
        """What its machine must know beside its size and its pods' addresses."""
        control = next(each for each in plan.machines if each.name == experiment.control_machine)
        if spec.name == control.name:
            return {
                "cloudcore": {
                    "path": settings.CLOUDCORE_FILE,
                    "content": settings.cloudcore(control.address),
                }
            }
        if spec.name in self.edge_machines(experiment):
            return {
                "edgecore": {
                    "path": settings.EDGECORE_FILE,
                    "content": settings.edgecore(
                        machine=spec.name,
                        address=spec.address,
                        control=control.address,
                        sandbox_image=versions.image("pause").reference,
                        internet=plan.network.internet,
                    ),
                }
            }
        return {}

    def units(self, experiment: Experiment, machine: str) -> tuple[str, ...]:
        """Units of the cluster on one of its machines, the one that tells most first."""
        if machine == experiment.control_machine:
            return ("cloudcore.service", "kubelet.service")
        if machine in self.edge_machines(experiment):
            return ("edgecore.service",)
        return ("kubelet.service",)

    def missing(self, experiment: Experiment, machines: Mapping[str, Machine]) -> list[str]:
        """Nodes that are not Ready, the name server, and CloudCore."""
        control = experiment.control_machine
        assert control is not None
        missing = super().missing(experiment, machines)
        active = Command(("systemctl", "is-active", "--quiet", "cloudcore.service"))
        try:
            if machines[control].run(active).exit_code != 0:
                missing.append(f"CloudCore on {control}")
        except ContinuumError as error:
            missing.append(f"CloudCore on {control}: {error.message}")
        return missing
