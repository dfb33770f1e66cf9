"""The resource manager `kubernetes`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from continuum.deployment import KUBECONFIG
from continuum.errors import ContinuumError
from continuum.infrastructure import tcp
from continuum.machine import Command
from continuum.software.capabilities import may_be_slow
from continuum.software.configure import ROLES
from continuum.software.contract import MetricsTarget, ResourceManager, RolePlay
from continuum.software.managers.kubernetes import addons, capacity, kubeadm, metrics, network
from continuum.software.managers.kubernetes.audit import AUDITED
from continuum.software.managers.kubernetes.install import (
    JOIN_PROGRAM,
    NODE_FILE,
    NODE_PROGRAM,
    Versions,
    node_steps,
)
from continuum.software.managers.kubernetes.kubectl import Kubectl
from continuum.software.serverless import distribution

if TYPE_CHECKING:
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import InstallStep
    from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
    from continuum.machine import Machine

_LOG_LINES = 15


class Kubernetes(ResourceManager):
    """One control plane and its workers, by kubeadm."""

    name: ClassVar[str] = "kubernetes"
    cluster: ClassVar[bool] = True

    def skip(self, experiment: Experiment) -> str | None:
        """It needs machines, and workers beside its control plane when there is a benchmark."""
        if not experiment.node_machines:
            return "it needs a machine for its control plane"
        if experiment.benchmark is not None and not experiment.worker_machines:
            return (
                f'tier "{experiment.worker_tier}" has no machine for workers beside the control '
                f"plane, {experiment.control_machine}"
            )
        return capacity.problem(experiment)

    def install(self, experiment: Experiment) -> tuple[InstallStep, ...]:
        """Programs and images of the version that the experiment asks for."""
        return (*node_steps(_versions(experiment)), *distribution.install(experiment))

    @property
    def execution_models(self) -> tuple[str, ...]:
        """Pods, functions; and processes beside them."""
        return ("container", "function", "process")

    def configure(self, experiment: Experiment, plan: InfrastructurePlan) -> tuple[RolePlay, ...]:
        """All machines as nodes; then the control plane; then the others join."""
        control = self.control_machine(experiment)
        assert control is not None
        nodes = [spec for spec in plan.machines if spec.name in self.nodes(experiment)]
        versions = _versions(experiment)
        return (
            self._node_play(experiment, plan, versions),
            self._control_play(experiment, plan, versions, nodes),
            *(
                RolePlay(
                    "kubernetes_worker",
                    tuple(spec.name for spec in nodes if spec.name != control),
                    ROLES,
                    variables={
                        "kubernetes_worker_admin": kubeadm.ADMIN,
                        "kubernetes_worker_control": control,
                        "kubernetes_worker_runtime": kubeadm.RUNTIME,
                        "kubernetes_worker_program": JOIN_PROGRAM,
                    },
                    per_machine={
                        spec.name: {
                            "kubernetes_worker_join": kubeadm.join_document(
                                version=versions.kubernetes,
                                machine=spec.name,
                                address=spec.address,
                                discovery={},
                                slow=may_be_slow(experiment),
                            )
                        }
                        for spec in nodes
                        if spec.name != control
                    },
                ),
            )
            * (len(nodes) > 1),
            *distribution.plays(experiment),
        )

    def _control_play(
        self,
        experiment: Experiment,
        plan: InfrastructurePlan,
        versions: Versions,
        nodes: list[MachineSpec],
    ) -> RolePlay:
        control = next(spec for spec in nodes if spec.name == self.control_machine(experiment))
        services = network.service_block(plan.network.block)
        alone = len(experiment.node_machines) == 1
        documents = kubeadm.init_documents(
            version=versions.kubernetes,
            etcd_version=versions.etcd,
            machine=control.name,
            address=control.address,
            names=("localhost", "127.0.0.1", control.address, control.name),
            services=str(services),
            name_server=network.name_server(services),
            alone=alone,
            audit=is_audited(experiment),
            internet=plan.network.internet,
            slow=may_be_slow(experiment),
        )
        manifests = addons.manifests(
            image=versions.image("coredns").reference,
            name_server=network.name_server(services),
            machines={spec.name: spec.address for spec in plan.machines},
            internet=plan.network.internet,
        )
        return RolePlay(
            "kubernetes_control",
            (control.name,),
            ROLES,
            variables={
                "kubernetes_control_admin": kubeadm.ADMIN,
                "kubernetes_control_alone": alone,
                "kubernetes_control_documents": kubeadm.as_text(documents),
                "kubernetes_control_manifests": manifests,
                "kubernetes_control_joined": len(nodes) > 1,
                "kubernetes_control_mark": kubeadm.MARK,
                "kubernetes_control_nodes": list(experiment.node_machines),
                "kubernetes_control_runtime": kubeadm.RUNTIME,
                "kubernetes_control_seconds": _SIGN_SECONDS[may_be_slow(experiment)],
                # An older kubectl cannot wait for this: those that join ask every 5 s.
                "kubernetes_control_waits": (
                    len(nodes) > 1 and not kubeadm.is_old(versions.kubernetes)
                ),
                "kubernetes_control_units": list(self.units(experiment, control.name)),
            },
        )

    def _node_play(
        self, experiment: Experiment, plan: InfrastructurePlan, versions: Versions
    ) -> RolePlay:
        """What every node must know before it joins: its size and its pods' addresses."""
        nodes = [spec for spec in plan.machines if spec.name in experiment.node_machines]
        told = {}
        for spec in nodes:
            assert spec.pods is not None
            told[spec.name] = {
                "kubernetes_node_about": {
                    "cores": spec.cores * spec.quota,
                    "memory": spec.memory,
                    "cni": {
                        "path": network.CNI_FILE,
                        "content": network.cni_configuration(
                            spec.pods, tcp.everywhere(plan.network.tcp)
                        ),
                    },
                    **self.about_node(experiment, plan, versions, spec),
                }
            }
        return RolePlay(
            "kubernetes_node",
            tuple(spec.name for spec in nodes),
            ROLES,
            variables={"kubernetes_node_file": NODE_FILE, "kubernetes_node_program": NODE_PROGRAM},
            per_machine=told,
        )

    def about_node(
        self,
        experiment: Experiment,
        plan: InfrastructurePlan,
        versions: Versions,
        spec: MachineSpec,
    ) -> dict[str, Any]:
        """What else a node must know, for `continuum_runtime.cluster_node`."""
        del experiment, plan, versions, spec
        return {}

    def versions(self, experiment: Experiment) -> Mapping[str, str]:
        """Of Kubernetes, etcd and CoreDNS."""
        found = _versions(experiment)
        return {
            "kubernetes": found.kubernetes,
            "etcd": found.etcd,
            "coredns": found.coredns,
            **distribution.versions(experiment),
        }

    def nodes(self, experiment: Experiment) -> tuple[str, ...]:
        """Names of the machines that kubeadm makes nodes."""
        return experiment.node_machines

    def units(self, experiment: Experiment, machine: str) -> tuple[str, ...]:
        """Units that make one of the machines a node."""
        del experiment, machine
        return ("kubelet.service",)

    def control_machine(self, experiment: Experiment) -> str | None:
        """The control plane's."""
        return experiment.control_machine

    def metrics(
        self, experiment: Experiment, plan: InfrastructurePlan
    ) -> tuple[MetricsTarget, ...]:
        """Kubelets with what they know of containers, and the control plane's own programs."""
        specs = {spec.name: spec for spec in plan.machines}
        control = self.control_machine(experiment)
        assert control is not None
        return metrics.targets([specs[name] for name in self.nodes(experiment)], specs[control])

    def metrics_access(self, experiment: Experiment, token_file: str) -> tuple[RolePlay, ...]:
        """A service account that may read figures, and its token."""
        control = self.control_machine(experiment)
        assert control is not None
        return (
            RolePlay(
                "kubernetes_metrics",
                (control,),
                ROLES,
                variables={
                    "kubernetes_metrics_admin": kubeadm.ADMIN,
                    "kubernetes_metrics_rights": metrics.rights(),
                    "kubernetes_metrics_account": metrics.ACCOUNT,
                    "kubernetes_metrics_namespace": metrics.NAMESPACE,
                    "kubernetes_metrics_file": token_file,
                },
            ),
        )

    def missing(self, experiment: Experiment, machines: Mapping[str, Machine]) -> list[str]:
        """Nodes that are not Ready, the name server, and the gateway of functions."""
        control = self.control_machine(experiment)
        assert control is not None
        try:
            items = Kubectl(machines[control]).get("nodes,deployments", namespace="kube-system")
        except ContinuumError as error:
            why = error.output.strip() or error.message
            return [f"the control plane: {why.splitlines()[-1][:200]}"]
        found = missing_of(items, experiment.node_machines)
        return found or distribution.missing(experiment, machines)

    def log(self, experiment: Experiment, machines: Mapping[str, Machine]) -> str:
        """The last lines of what makes these machines nodes."""
        found = []
        for name in experiment.node_machines:
            for unit in self.units(experiment, name) if name in machines else ():
                journal = ("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")
                lines = machines[name].run(Command((*journal, f"--lines={_LOG_LINES}")))
                found.append(f"{name}: {unit}\n{lines.last_output}")
        return "\n".join(found)

    def keep(self, experiment: Experiment, machines: Mapping[str, Machine]) -> Mapping[str, bytes]:
        """The administrator's kubeconfig."""
        control = self.control_machine(experiment)
        assert control is not None
        return {KUBECONFIG: machines[control].get(kubeadm.ADMIN)}


_SIGN_SECONDS = {False: 30, True: 240}
"""For the control plane to sign a token; the second where machines may be slow."""


def is_audited(experiment: Experiment) -> bool:
    """Whether the API server keeps a log of requests: where the cluster itself is measured."""
    return experiment.benchmark is not None and experiment.benchmark.application in AUDITED


def missing_of(items: list[dict[str, Any]], nodes: tuple[str, ...]) -> list[str]:
    """What of a cluster's nodes and deployments is not as it should be."""
    ready = {
        item["metadata"]["name"]
        for item in items
        if item["kind"] == "Node"
        for condition in item["status"].get("conditions", ())
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
    missing = [f"node {name}" for name in nodes if name not in ready]
    deployments = [item for item in items if item["kind"] == "Deployment"]
    if not any(map(addons.is_name_server_up, deployments)):
        missing.append("the cluster's name server")
    return missing


def _versions(experiment: Experiment) -> Versions:
    software = experiment.software
    return Versions.of(software.kubernetes.version if software else None)
