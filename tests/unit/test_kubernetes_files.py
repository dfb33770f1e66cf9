"""Kubernetes: who becomes what, what its programs are told, and what is refused beforehand."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import StepFailed
from continuum.experiment.model import Benchmark, Experiment, Software, Tcp, Tier
from continuum.images.recipe import Recipe
from continuum.infrastructure import tcp
from continuum.machine import Command, Result
from continuum.software.contract import RolePlay
from continuum.software.managers.kubernetes import (
    Kubernetes,
    addons,
    audit,
    install,
    kubeadm,
    network,
)
from continuum.software.managers.kubernetes.kubectl import Kubectl
from continuum.software.managers.kubernetes.manager import missing_of
from continuum.testing.software import DeadMachine, small_plan

GOLDEN = Path(__file__).parents[1] / "golden" / "kubernetes"
TIERS = {
    "cloud": Tier.model_validate({"machines": 3, "cores": 2, "memory": "2 GiB"}),
    "endpoint": Tier(machines=2),
}
MACHINES = {"cloud-1": "10.20.0.2", "cloud-2": "10.20.1.2", "endpoint-1": "10.20.4.2"}


def experiment(
    tiers: Mapping[str, Tier] | None = None, *, model: str = "container", **benchmark: Any
) -> Experiment:
    return Experiment(
        name="test",
        tiers=dict(tiers or TIERS),
        software=Software(manager="kubernetes", execution_model=model),
        benchmark=Benchmark.model_validate({"application": "image_classification", **benchmark}),
    )


def plays(asked: Experiment) -> dict[str, RolePlay]:
    found = Kubernetes().configure(asked, small_plan(asked))
    assert len({play.role for play in found}) == len(found)
    return {play.role: play for play in found}


def documents(
    version: str, *, audited: bool = False, internet: bool = False, slow: bool = False
) -> str:
    return kubeadm.as_text(
        kubeadm.init_documents(
            version=version,
            etcd_version="v3.6.16",
            machine="cloud-1",
            address="10.20.0.2",
            names=("localhost", "127.0.0.1", "10.20.0.2", "cloud-1"),
            services="172.30.0.0/16",
            name_server="172.30.0.10",
            alone=audited,
            audit=audited,
            internet=internet,
            slow=slow,
        )
    )


def shown(content: object) -> str:
    return json.dumps(content, indent=1) + "\n"


# -- who becomes what ----------------------------------------------------------------------------


def test_the_first_cloud_machine_is_the_control_plane_and_the_others_join() -> None:
    found = plays(experiment())
    assert {role: play.machines for role, play in found.items()} == {
        "kubernetes_node": ("cloud-1", "cloud-2", "cloud-3"),
        "kubernetes_control": ("cloud-1",),
        "kubernetes_worker": ("cloud-2", "cloud-3"),
    }
    told = found["kubernetes_control"].variables
    assert told["kubernetes_control_nodes"] == ["cloud-1", "cloud-2", "cloud-3"]
    assert told["kubernetes_control_joined"] is True
    assert told["kubernetes_control_alone"] is False


def test_one_machine_is_a_cluster_too_and_carries_pods() -> None:
    alone = experiment({"cloud": Tier(), "endpoint": Tier()}).model_copy(update={"benchmark": None})
    found = plays(alone)
    assert set(found) == {"kubernetes_node", "kubernetes_control"}
    (first, *_) = found["kubernetes_control"].variables["kubernetes_control_documents"].split("---")
    assert json.loads(first)["nodeRegistration"]["taints"] == []
    assert found["kubernetes_control"].variables["kubernetes_control_alone"] is True
    assert found["kubernetes_control"].variables["kubernetes_control_waits"] is False


def test_a_node_knows_its_size_and_its_pods_addresses() -> None:
    asked = experiment({"cloud": Tier(machines=2, cores=4, quota=0.5), "endpoint": Tier()})
    (_, second) = [
        each["kubernetes_node_about"]
        for each in plays(asked)["kubernetes_node"].per_machine.values()
    ]
    pods = small_plan(asked).machines[1].pods
    assert pods is not None
    assert (second["cores"], second["memory"]) == (2.0, 2**30)
    (bridge, _) = second["cni"]["content"]["plugins"]
    assert bridge["ipam"]["ranges"] == [[{"subnet": str(pods)}]]


def test_only_a_cluster_that_is_measured_keeps_a_log_of_requests() -> None:
    measured = experiment().model_copy(update={"benchmark": Benchmark(application="empty")})
    key = "kubernetes_control_documents"
    assert kubeadm.AUDIT_LOG in plays(measured)["kubernetes_control"].variables[key]
    assert kubeadm.AUDIT_LOG not in plays(experiment())["kubernetes_control"].variables[key]


def test_images_hold_one_version_of_everything() -> None:
    recipe = Recipe.collect(Kubernetes().install(experiment()))
    names = [image.reference.partition(":")[0] for image in recipe.container_images]
    assert names == sorted(
        f"continuum.local/{name}" for name in (*install.STATIC_PODS, "etcd", "coredns", "pause")
    )
    assert not any(image.reference.endswith(":latest") for image in recipe.container_images)
    other = experiment().model_copy(
        update={
            "software": Software.model_validate(
                {"manager": "kubernetes", "kubernetes": {"version": "1.34.3"}}
            )
        }
    )
    assert Recipe.collect(Kubernetes().install(other)) != recipe


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiers", "benchmark", "reason"),
    [
        ({"cloud": Tier(), "endpoint": Tier()}, {}, "no machine for workers beside the control"),
        (None, {"worker_cpu": 2.5}, "a worker of 2.5 cores on each machine"),
        (None, {"worker_memory": "3 GiB"}, "a worker of 3 GiB on each machine"),
        (None, {"worker_cpu": 1.1, "workers_per_machine": 2}, "2 workers of 1.1 cores"),
        (
            None,
            {"worker_memory": "1 GiB", "workers_per_machine": 3},
            '3 workers of 1 GiB on each machine of tier "cloud", which has 2 GiB',
        ),
        (None, {"workers_per_machine": 111}, "at most 110 pods"),
    ],
)
def test_what_nodes_cannot_hold_is_refused(
    tiers: dict[str, Tier] | None, benchmark: dict[str, Any], reason: str
) -> None:
    assert reason in (Kubernetes().skip(experiment(tiers, **benchmark)) or "")


@pytest.mark.parametrize(
    "benchmark",
    [
        {},
        {"worker_cpu": 2.0, "worker_memory": "2 GiB"},
        {"worker_cpu": 0.1, "worker_memory": "128 MiB", "workers_per_machine": 16},
        {"worker_cpu": 2 / 3, "workers_per_machine": 3},
    ],
)
def test_what_fits_exactly_is_not_refused(benchmark: dict[str, Any]) -> None:
    assert Kubernetes().skip(experiment(**benchmark)) is None


def test_processes_are_not_scheduled_and_so_not_refused() -> None:
    asked = experiment(model="process", worker_cpu=64.0)
    assert Kubernetes().skip(asked) is None


# -- what programs are told ----------------------------------------------------------------------


def test_files_are_those_in_the_golden_folder() -> None:
    pods = ipaddress.IPv4Network("10.20.1.128/25")
    addon = {"image": "continuum.local/coredns:0", "name_server": "172.30.0.10"}
    files = {
        "init.yaml": documents("v1.34.4"),
        "init-audited.yaml": documents("v1.34.4", audited=True, internet=True),
        "init-before-1.31.yaml": documents("v1.30.7"),
        "join.json": shown(
            kubeadm.join_document(
                version="v1.34.4", machine="cloud-2", address="10.20.1.2", discovery={"token": "t"}
            )
        ),
        "kube-proxy.json": shown(kubeadm.proxy_document("v1.34.4")),
        "kube-proxy-before-1.31.json": shown(kubeadm.proxy_document("v1.30.7")),
        "network.json": shown(network.cni_configuration(pods, tcp.everywhere(tcp.settings(Tcp())))),
        "audit-policy.json": shown(audit.audit_policy()),
        "name-server.json": shown(addons.manifests(**addon, machines=MACHINES, internet=False)),
        "name-server-internet.json": shown(
            addons.manifests(**addon, machines=MACHINES, internet=True)
        ),
        "units": "".join(
            f"# {path}\n{text}\n"
            for path, text in sorted(install._units("v1.34.4").items())
            if path.startswith("/etc/systemd/") or path.endswith(".conf")
        ),
    }
    assert set(files) == {path.name for path in GOLDEN.iterdir()}
    for name, text in files.items():
        assert text == (GOLDEN / name).read_text(), name


@pytest.mark.parametrize(
    ("block", "services"),
    [
        ("10.20.0.0/16", "172.30.0.0/16"),
        ("172.16.0.0/12", "10.96.0.0/16"),
        ("172.30.4.0/24", "10.96.0.0/16"),
    ],
)
def test_services_and_machines_share_no_address(block: str, services: str) -> None:
    found = network.service_block(ipaddress.IPv4Network(block))
    assert str(found) == services
    assert network.name_server(found) == str(found.network_address + 10)


def test_names_of_other_networks_are_asked_for_only_with_a_way_out() -> None:
    assert "forward" not in addons.corefile(MACHINES, internet=False)
    assert "forward . /etc/resolv.conf" in addons.corefile(MACHINES, internet=True)
    for name, address in MACHINES.items():
        assert f"{address} {name}\n" in addons.corefile({**MACHINES}, internet=False)


def test_a_name_server_that_is_told_of_other_machines_is_started_anew() -> None:
    def pod(machines: Mapping[str, str]) -> dict[str, Any]:
        items = addons.manifests(
            image="", name_server="172.30.0.10", machines=machines, internet=False
        )["items"]
        (found,) = [each["spec"]["template"] for each in items if each["kind"] == "Deployment"]
        return dict(found["metadata"])

    assert pod(MACHINES) == pod({**MACHINES})
    assert pod(MACHINES) != pod({**MACHINES, "cloud-3": "10.20.2.2"})


# -- whether it is there -------------------------------------------------------------------------


def node(name: str, ready: str) -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def name_server(**told: int) -> dict[str, Any]:
    """Its deployment, by default one that is up."""
    status = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    return {
        "kind": "Deployment",
        "metadata": {"name": "coredns", "generation": 2},
        "spec": {"replicas": 1},
        "status": status | told,
    }


def test_what_is_missing_is_named() -> None:
    down = name_server(availableReplicas=0)
    items = [node("cloud-1", "True"), node("cloud-2", "Unknown"), down]
    assert missing_of(items, ("cloud-1", "cloud-2", "cloud-3")) == [
        "node cloud-2",
        "node cloud-3",
        "the cluster's name server",
    ]
    assert missing_of([node("cloud-1", "True"), name_server()], ("cloud-1",)) == []
    assert missing_of([], ()) == ["the cluster's name server"]


@pytest.mark.parametrize(
    "before", [{"observedGeneration": 1}, {"updatedReplicas": 0}, {"replicas": 2}]
)
def test_a_name_server_that_knows_former_machines_is_missing(before: dict[str, int]) -> None:
    assert missing_of([name_server(**before)], ()) == ["the cluster's name server"]


class Scripted(DeadMachine):
    """Answers every command alike, and remembers them."""

    def __init__(self, name: str, said: bytes, code: int = 0) -> None:
        super().__init__(name)
        self.said, self.code = said, code
        self.asked: list[Command] = []

    def run(self, command: Command) -> Result:
        self.asked.append(command)
        return Result(command, self.code, self.said, b"refused", 0.0, self.name)

    def get(self, path: str) -> bytes:
        return path.encode()


def test_the_manager_asks_its_control_machine() -> None:
    items = {"items": [node("cloud-1", "True"), name_server()]}
    control = Scripted("cloud-1", json.dumps(items).encode())
    asked = experiment()
    others = {name: DeadMachine(name) for name in ("cloud-2", "cloud-3")}
    machines = {"cloud-1": control, **others}
    manager = Kubernetes()
    assert manager.missing(asked, machines) == ["node cloud-2", "node cloud-3"]
    assert dict(manager.keep(asked, machines)) == {"kubeconfig": kubeadm.ADMIN.encode()}


def test_a_control_plane_that_does_not_answer_is_what_is_missing() -> None:
    machines = {name: DeadMachine(name) for name in ("cloud-1", "cloud-2", "cloud-3")}
    (missing,) = Kubernetes().missing(experiment(), machines)
    assert missing == "the control plane: no"
    # kubectl answers with an empty list, over many lines, before it says why.
    machines["cloud-1"] = Scripted("cloud-1", b'{\n "items": []\n}\n', code=1)
    (missing,) = Kubernetes().missing(experiment(), machines)
    assert missing == "the control plane: refused"


def test_the_log_tells_of_the_machines_that_are_asked_for() -> None:
    machines = {"cloud-2": Scripted("cloud-2", b"its last words\n")}
    told = Kubernetes().log(experiment(), machines)
    assert "cloud-2: kubelet.service" in told
    assert "its last words" in told
    assert "cloud-1" not in told


def test_kubectl_is_bounded_and_takes_objects_by_its_input() -> None:
    control = Scripted("cloud-1", b"")
    Kubectl(control).apply([{"kind": "Service"}], limit=8.0)
    (command,) = control.asked
    assert command.timeout == 8.0
    assert "--request-timeout=4s" in command.arguments
    assert command.input is not None
    assert json.loads(command.input)["items"] == [{"kind": "Service"}]
    with pytest.raises(StepFailed, match="the control plane refuses an object"):
        Kubectl(Scripted("cloud-1", b"", 1)).apply([])
    with pytest.raises(StepFailed, match="the control plane does not answer"):
        Kubectl(Scripted("cloud-1", b"", 1)).get("nodes")


def test_slow_machines_have_longer_than_kubeadm_gives_by_itself() -> None:
    made = kubeadm.join_document(
        version="v1.34.4", machine="edge-1", address="10.20.1.2", discovery={}, slow=True
    )
    assert set(made["timeouts"].values()) == {"10m0s"}


def test_a_slow_control_plane_is_not_ended_for_being_slow() -> None:
    folder = documents("v1.34.4", slow=True)
    assert '"directory": "/etc/kubernetes/patience"' in folder
    assert "patience" not in documents("v1.34.4")
    patches = {path: text for path, text in install._units("v1.34.4").items() if "patience" in path}
    assert len(patches) == 4
    for path, text in patches.items():
        (container,) = json.loads(text)["spec"]["containers"]
        assert Path(path).name == f"{container['name']}+strategic.json"
