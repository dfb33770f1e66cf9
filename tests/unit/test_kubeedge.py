"""KubeEdge: who becomes what, what its programs are told, and how a machine joins."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import StepFailed
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.images.recipe import Recipe
from continuum.machine import Command, Result
from continuum.software.configure import configure
from continuum.software.contract import RolePlay
from continuum.software.managers.kubeedge import KubeEdge, install, settings
from continuum.testing.software import DeadMachine, small_plan
from continuum_runtime import cluster_node, edge_node
from continuum_runtime.edge_node import Membership

GOLDEN = Path(__file__).parents[1] / "golden" / "kubeedge"
TIERS = {"cloud": Tier(machines=2), "edge": Tier(machines=2), "endpoint": Tier(machines=1)}


def experiment(tiers: Mapping[str, Tier] | None = None, workers: str = "") -> Experiment:
    return Experiment(
        name="test",
        tiers=dict(tiers or TIERS),
        software=Software(manager="kubeedge", execution_model="container"),
        benchmark=Benchmark(application="image_classification", workers=workers),
    )


def plays(asked: Experiment) -> dict[str, RolePlay]:
    found = KubeEdge().configure(asked, small_plan(asked))
    assert len({play.role for play in found}) == len(found)
    return {play.role: play for play in found}


# -- who becomes what ----------------------------------------------------------------------------


def test_the_cloud_is_joined_by_kubeadm_and_the_rest_runs_edgecore() -> None:
    found = plays(experiment())
    assert {role: play.machines for role, play in found.items()} == {
        "kubernetes_node": ("cloud-1", "cloud-2", "edge-1", "edge-2"),
        "kubernetes_control": ("cloud-1",),
        "kubernetes_worker": ("cloud-2",),
        "kubeedge_cloud": ("cloud-1",),
        "kubeedge_edge": ("edge-1", "edge-2"),
    }
    nodes = found["kubernetes_control"].variables["kubernetes_control_nodes"]
    assert nodes == ["cloud-1", "cloud-2", "edge-1", "edge-2"]


def test_a_tier_of_any_name_beside_the_cloud_is_the_edge() -> None:
    tiers = {"cloud": Tier(), "roadside": Tier(machines=2), "fog": Tier(), "endpoint": Tier()}
    asked = experiment(tiers, workers="roadside")
    assert plays(asked)["kubeedge_edge"].machines == ("roadside-1", "roadside-2", "fog-1")


def test_without_a_cloud_the_first_machine_is_the_control_plane() -> None:
    found = plays(experiment({"edge": Tier(machines=3), "endpoint": Tier()}))
    assert found["kubernetes_control"].machines == ("edge-1",)
    assert found["kubeedge_edge"].machines == ("edge-2", "edge-3")
    assert "kubernetes_worker" not in found


def test_a_control_plane_alone_in_the_cloud_carries_no_pods_of_others() -> None:
    (machine,) = (
        plays(experiment({"cloud": Tier(), "edge": Tier(), "endpoint": Tier()}))[
            "kubernetes_control"
        ]
        .variables["kubernetes_control_documents"]
        .split("---\n")[:1]
    )
    assert "taints" not in json.loads(machine)["nodeRegistration"]


@pytest.mark.parametrize(
    ("tiers", "workers", "reason"),
    [
        ({"cloud": Tier(machines=2), "endpoint": Tier()}, "cloud", "a machine at the edge"),
        ({"edge": Tier(), "endpoint": Tier()}, "edge", "no machine for workers"),
    ],
)
def test_what_it_cannot_carry_is_said(tiers: dict[str, Tier], workers: str, reason: str) -> None:
    assert reason in (KubeEdge().skip(experiment(tiers, workers)) or "")


def test_edge_machines_get_a_broker_though_nobody_asks_for_it() -> None:
    asked = experiment().model_copy(update={"benchmark": None})
    plan = configure(asked, small_plan(asked))
    assert plan.services == {"mqtt": ("edge-1", "edge-2")}
    assert plan.plays[-1].role == "mqtt"


# -- what programs are told ----------------------------------------------------------------------


def test_settings_and_units_are_those_in_the_golden_folder() -> None:
    cloudcore = settings.cloudcore("10.20.0.2")
    edgecore = settings.edgecore(
        machine="edge-1",
        address="10.20.1.2",
        control="10.20.0.2",
        sandbox_image="continuum.local/pause:0",
        internet=False,
    )
    made = {
        "cloudcore.json": json.dumps(cloudcore, indent=1) + "\n",
        "edgecore.json": json.dumps(edgecore, indent=1) + "\n",
        **{Path(path).name: text for path, text in install.UNITS.items()},
    }
    kept = {path.name: path.read_text() for path in GOLDEN.iterdir()}
    assert made == kept


def test_kubeedge_is_part_of_the_image_and_its_units_are_switched_on() -> None:
    recipe = Recipe.collect(KubeEdge().install(experiment()))
    assert {"kubernetes", "kubeedge", "kubeedge-kinds"} <= {tree.name for tree in recipe.trees}
    wanted = {line for text in install.UNITS.values() for line in text.splitlines()}
    assert {"WantedBy=kubelet.service", "WantedBy=multi-user.target"} <= wanted


def test_kinds_are_taken_out_of_all_manifests_in_a_fixed_order() -> None:
    kind = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {}"
    )
    other = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: |\n    x: CustomResourceDefinition"
    one, two = kind.format("a"), kind.format("b")
    text = install.kinds_of(f"{two}\n---\n{other}\n---\n{one}")
    assert text == f"{one}\n---\n{two}\n"
    with pytest.raises(StepFailed):
        install.kinds_of(other)


def test_edgecore_offers_its_machines_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_node, "seen_memory", lambda _: 8 * 2**30)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    about = plays(experiment())["kubernetes_node"].per_machine["edge-1"]["kubernetes_node_about"]
    node = json.loads(json.dumps(about)) | {"cores": 1.5, "memory": 2 * 2**30}
    for each in ("cni", "edgecore"):
        node[each]["path"] = str(tmp_path / each)
    (tmp_path / "node.json").write_text(json.dumps(node))
    cluster_node.main([str(tmp_path / "node.json"), str(tmp_path / "environment")])
    edged = json.loads((tmp_path / "edgecore").read_text())["modules"]["edged"]
    reserved = edged["tailoredKubeletConfig"]["systemReserved"]
    assert reserved == {"cpu": "2500m", "memory": str(6 * 2**30)}


# -- what is missing, and why --------------------------------------------------------------------


class Answering(DeadMachine):
    """A control machine: what `kubectl get` says, and whether CloudCore runs."""

    def __init__(self, items: list[dict[str, Any]], *, cloudcore: bool) -> None:
        super().__init__("cloud-1")
        self.items, self.cloudcore = items, cloudcore

    def run(self, command: Command) -> Result:
        if command.arguments[0] == "systemctl":
            return Result(command, 0 if self.cloudcore else 3, b"", b"", 0.0, self.name)
        told = json.dumps({"items": self.items}).encode()
        return Result(command, 0, told, b"", 0.0, self.name)


def node(name: str, *, ready: bool = True) -> dict[str, Any]:
    condition = {"type": "Ready", "status": str(ready)}
    return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": [condition]}}


def test_missing_are_edge_nodes_and_cloudcore() -> None:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    names = {
        "kind": "Deployment",
        "metadata": {"name": "coredns", "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, **counts},
    }
    there = [node("cloud-1"), node("cloud-2"), node("edge-1"), node("edge-2", ready=False), names]
    asked = experiment()
    assert KubeEdge().missing(asked, {"cloud-1": Answering(there, cloudcore=False)}) == [
        "node edge-2",
        "CloudCore on cloud-1",
    ]
    there[3] = node("edge-2")
    assert KubeEdge().missing(asked, {"cloud-1": Answering(there, cloudcore=True)}) == []


def test_logs_are_those_of_kubeedges_own_units() -> None:
    asked = experiment()
    told = KubeEdge().log(asked, {name: DeadMachine(name) for name in ("cloud-1", "edge-2")})
    assert [line for line in told.splitlines() if ": " in line] == [
        "cloud-1: cloudcore.service",
        "cloud-1: kubelet.service",
        "edge-2: edgecore.service",
    ]


# -- how a machine joins -------------------------------------------------------------------------


class Machine:
    """A machine's files, and its EdgeCore as systemd and the cloud have it."""

    def __init__(self, root: Path) -> None:
        self.membership = Membership(root)
        self.verbs: list[str] = []
        self.lost = 0

    def certify(self, cloud: bytes) -> None:
        """Have a certificate of a cloud."""
        pem = base64.encodebytes(cloud).decode()
        authority = self.membership.authority
        authority.parent.mkdir(parents=True, exist_ok=True)
        authority.write_text(f"-----BEGIN CERTIFICATE-----\n{pem}-----END CERTIFICATE-----\n")
        self.membership.certificates.mkdir(parents=True, exist_ok=True)
        for name in ("server.crt", "server.key"):
            (self.membership.certificates / name).write_text("made up")

    def register(self, value: str = '{"metadata":{"uid":"1"}}') -> None:
        """Have been told of the own node."""
        memory = self.membership.memory
        memory.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(memory) as database:
            database.execute("CREATE TABLE meta (key, type, value)")
            database.execute("INSERT INTO meta VALUES ('default/node/edge-1', 'node', ?)", (value,))
        database.close()

    def systemctl(self, verb: str) -> None:
        """EdgeCore gets its certificate and registers when it is started, unless that gets lost."""
        self.verbs.append(verb)
        if verb == "stop":
            return
        if self.membership.bootstrap.exists():
            self.certify(b"the cloud's authority")
        if not self.membership.is_registered():
            if self.lost == 0:
                self.register()
            self.lost -= 1


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setattr(edge_node, "_systemctl", made.systemctl)
    return made


TOKEN = hashlib.sha256(b"the cloud's authority").hexdigest() + ".a.b.c"


def test_a_machine_joins_and_says_so(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert edge_node.join(TOKEN, 5, machine.membership) == 0
    assert capsys.readouterr().out == "changed\n"
    assert machine.verbs == ["stop", "start"]
    assert not machine.membership.bootstrap.exists()


def test_a_member_stays_as_it_is(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.certify(b"the cloud's authority")
    machine.register()
    machine.membership.bootstrap.write_text("left by one that was killed")
    assert edge_node.join(TOKEN, 5, machine.membership) == 0
    assert capsys.readouterr().out == ""
    assert machine.verbs == ["start"]
    assert not machine.membership.bootstrap.exists()


def test_a_member_of_another_cloud_begins_anew(machine: Machine) -> None:
    machine.certify(b"another")
    machine.register()
    leftover = machine.membership.memory.with_name("leftover")
    leftover.touch()
    assert edge_node.join(TOKEN, 5, machine.membership) == 0
    assert machine.verbs == ["stop", "start"]
    assert not leftover.exists()


def test_a_request_that_got_lost_is_made_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_node, "PATIENCE", 0.1)
    machine.lost = 2
    assert edge_node.join(TOKEN, 20, machine.membership) == 0
    assert machine.verbs == ["stop", "start", "restart", "restart"]


def test_a_machine_that_does_not_get_in_ends_in_time(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.lost = 10**6
    assert edge_node.join(TOKEN, 0.1, machine.membership) == 1
    assert "no member of the cloud" in capsys.readouterr().err


def test_what_the_cloud_refuses_is_no_registration(machine: Machine) -> None:
    assert not machine.membership.is_registered()
    machine.register('{"ErrStatus":{"reason":"NotFound"}}')
    assert not machine.membership.is_registered()


def test_a_broken_authority_is_none(machine: Machine) -> None:
    machine.certify(b"the cloud's authority")
    machine.membership.authority.write_text("cut off")
    assert not machine.membership.has_certificate(TOKEN)


def test_the_token_is_for_root_only_and_nothing_else_stays(machine: Machine) -> None:
    machine.certify(b"another")
    machine.register()
    machine.membership.begin_anew(TOKEN)
    bootstrap = machine.membership.bootstrap
    assert bootstrap.read_text() == TOKEN
    assert bootstrap.stat().st_mode & 0o777 == 0o600
    assert not machine.membership.authority.exists()
    assert not machine.membership.memory.exists()


# Columns of /proc/net/tcp: number, local address, remote address, state, and more.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue
   0: 00000000:0016 00000000:0000 0A 00000000:00000000
   1: 0201140A:8F12 0200140A:2714 01 00000000:00000000
   2: 0201140A:8F14 0200140A:2710 02 00000000:00000000
"""


def test_a_connection_counts_when_it_is_there_and_leads_to_the_cloud() -> None:
    assert edge_node.is_connected(TCP, "10.20.0.2:10004")
    assert not edge_node.is_connected(TCP, "10.20.0.2:10000")  # Not answered yet.
    assert not edge_node.is_connected(TCP, "10.20.0.3:10004")


def test_the_kubelet_waits_for_the_cloud_but_not_for_long(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edgecore.json"
    whole = settings.edgecore(
        machine="edge-1", address="", control="127.0.0.1", sandbox_image="", internet=False
    )
    with socket.create_server(("127.0.0.1", 0)) as cloud:
        server = f"127.0.0.1:{cloud.getsockname()[1]}"
        whole["modules"]["edgeHub"]["websocket"]["server"] = server
        path.write_text(json.dumps(whole))
        monkeypatch.setattr(edge_node, "CLOUD_LIMIT", 0.1)
        assert edge_node.await_cloud(path, machine.membership) == 0
        monkeypatch.setattr(edge_node, "CLOUD_LIMIT", 3600.0)
        with socket.create_connection(cloud.getsockname()):
            assert edge_node.await_cloud(path, machine.membership) == 0


def test_the_program_reads_its_token_from_its_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[object, ...]] = []

    def join(*arguments: object) -> int:
        asked.append(arguments)
        return 0

    monkeypatch.setattr(edge_node, "join", join)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TOKEN}\n"))
    assert edge_node.main(["join", "90"]) == 0
    assert asked == [(TOKEN, 90.0, Membership())]


def test_an_api_server_that_is_not_there_does_not_answer() -> None:
    assert edge_node.api_answers(port=1) is False
