"""Workers as pods: the object, how a worker is read from the cluster, and how it is stopped."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import MachineUnreachable, StepFailed
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.machine import Command, Result
from continuum.parallel import for_each
from continuum.secret import Secret
from continuum.software.contract import ProcessSpec
from continuum.software.execution_models import pod as subject
from continuum.software.execution_models.container import Container
from continuum.software.execution_models.mounts import mounted_folders
from continuum.software.execution_models.pod import (
    Pod,
    deployment,
    finds_no_place,
    literally,
    pod_state,
    pods_of,
    quantity,
    reasons,
)
from continuum.testing.software import DeadMachine

GOLDEN = Path(__file__).parents[1] / "golden" / "kubernetes-pods"
RUN = "/var/lib/continuum/run"
WORKER = ProcessSpec(
    name="worker-1",
    machine="cloud-2",
    arguments=("python3", "-m", "continuum_runtime.worker", f"{RUN}/worker-1/config.json"),
    environment={"PYTHONPATH": "/opt/continuum", "ODD": "$(HOME) $HOME"},
    files={f"{RUN}/worker-1/config.json": b"{}"},
    cpu=2.0,
    memory=2**30,
    ready_file=f"{RUN}/worker-1/ready",
    image="continuum.local/image-classification:0",
    port=8080,
)
EXPERIMENT = Experiment(
    name="test",
    tiers={
        "cloud": Tier.model_validate({"machines": 2, "cores": 4, "memory": "2 GiB"}),
        "endpoint": Tier(),
    },
    software=Software(manager="kubernetes", execution_model="container"),
    benchmark=Benchmark(application="image_classification"),
)


# -- the object ----------------------------------------------------------------------------------


def test_the_objects_are_those_in_the_golden_folder() -> None:
    plain = ProcessSpec("worker-1", "cloud-2", (), working_directory="", image="theirs:1")
    files = {
        "worker.json": deployment(WORKER, (0.5, 0.9), start="1"),
        "image-as-it-is.json": deployment(plain, start="1"),
    }
    assert set(files) == {path.name for path in GOLDEN.iterdir()}
    for name, made in files.items():
        assert json.dumps(made, indent=1) + "\n" == (GOLDEN / name).read_text(), name


def test_secret_variables_are_in_the_pod_and_in_no_message() -> None:
    process = dataclasses.replace(WORKER, secrets={"TOKEN": Secret("a$(HOME)b")})
    (container,) = deployment(process)["spec"]["template"]["spec"]["containers"]
    assert container["env"][-1] == {"name": "TOKEN", "value": "a$$(HOME)b"}
    assert "HOME)b" not in repr(process)


def test_output_goes_to_its_file_by_the_images_python() -> None:
    process = dataclasses.replace(WORKER, output=f"{RUN}/worker-1/output")
    spec = deployment(process)["spec"]["template"]["spec"]
    command = spec["containers"][0]["command"]
    assert command[0] == "python3"
    assert command[-5:] == [process.output, *WORKER.arguments]


def test_nothing_is_filled_in_by_kubernetes() -> None:
    # As Kubernetes does it: "$$" is "$", "$(NAME)" is filled in, all else stays.
    for word in ("$(HOME)", "$$", "$HOME", "a$", "${x}", "100 %"):
        assert literally(word).replace("$$", "\0").replace("\0", "$") == word
        assert "$" not in literally(word).replace("$$", "")


def test_what_is_asked_of_the_scheduler_is_never_more_than_the_share() -> None:
    process = dataclasses.replace(WORKER, cpu=1 / 3, memory=10**9)
    (container,) = deployment(process, (0.5, 0.5))["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "limits": {"cpu": "333m", "memory": "1000000000"},
        "requests": {"cpu": "166m", "memory": "500000000"},
    }
    unlimited = dataclasses.replace(WORKER, cpu=None, memory=None)
    (container,) = deployment(unlimited)["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {}, "requests": {}}


@pytest.mark.parametrize(
    ("paths", "folders"),
    [
        ((), ()),
        (("/a/one", "/a/two"), ("/a",)),
        (("/b/one", "/a/one"), ("/a", "/b")),
        (("/a/one", "/a/deep/two", "/a/deep/er/three"), ("/a",)),
        (("/ab/one", "/a/one"), ("/a", "/ab")),
    ],
)
def test_folders_are_mounted_once(paths: tuple[str, ...], folders: tuple[str, ...]) -> None:
    process = ProcessSpec("w", "m", (), files=dict.fromkeys(paths, b""))
    assert mounted_folders(process) == folders


def test_ready_file_and_output_are_seen_too() -> None:
    process = ProcessSpec("w", "m", (), ready_file="/r/ready", output="/o/output")
    assert mounted_folders(process) == ("/o", "/r")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1500m", 1.5), ("2", 2.0), ("512Mi", 2**29), ("1Gi", 2**30), ("1e3", 1000.0), ("3k", 3000.0)],
)
def test_quantities_are_read(text: str, value: float) -> None:
    assert quantity(text) == value


# -- how a worker is -----------------------------------------------------------------------------


def made(start: str = "1") -> dict[str, Any]:
    return {"kind": "Deployment", **deployment(WORKER, start=start)}


def pod(
    state: Mapping[str, Any] | None = None,
    *,
    last: Mapping[str, Any] | None = None,
    start: str = "1",
    going: bool = False,
    phase: str = "Running",
    conditions: tuple[Mapping[str, Any], ...] = (),
) -> dict[str, Any]:
    labels = deployment(WORKER, start=start)["spec"]["template"]["metadata"]["labels"]
    return {
        "kind": "Pod",
        "metadata": {"labels": labels, **({"deletionTimestamp": "now"} if going else {})},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"state": state, "lastState": last or {}}] if state else [],
        },
    }


RUNNING: dict[str, Any] = {"running": {}}
NO_PLACE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/2 nodes are available: 2 Insufficient memory.",
}


@pytest.mark.parametrize(
    ("items", "state"),
    [
        ([], "absent"),
        ([pod(RUNNING)], "absent"),
        ([made()], "starting"),
        ([made(), pod()], "starting"),
        ([made(), pod({"waiting": {"reason": "ContainerCreating"}})], "starting"),
        ([made(), pod(RUNNING)], "ready"),
        ([made(), pod({"terminated": {"exitCode": 0}})], "ended"),
        ([made(), pod({"terminated": {"exitCode": 3}})], "failed"),
        ([made(), pod(RUNNING, last={"terminated": {"exitCode": 137}})], "failed"),
        ([made(), pod({"waiting": {}}, last={"terminated": {"exitCode": 0}})], "ended"),
        ([made(), pod({"waiting": {"reason": "ErrImageNeverPull"}})], "failed"),
        ([made(), pod({"waiting": {"reason": "ImagePullBackOff"}})], "failed"),
        ([made(), pod(phase="Failed")], "failed"),
        # Of an earlier start, or on its way out.
        ([made("2"), pod(RUNNING)], "starting"),
        ([made(), pod(RUNNING, going=True)], "starting"),
        ([made("2"), pod(RUNNING, last={"terminated": {"exitCode": 1}})], "starting"),
    ],
)
def test_a_worker_is_read_from_the_cluster(items: list[dict[str, Any]], state: str) -> None:
    assert pod_state(items, "worker-1") == state
    assert pod_state(items, "worker-2") == "absent"


def test_a_deployment_on_its_way_out_does_not_count() -> None:
    going = made()
    going["metadata"]["deletionTimestamp"] = "now"
    assert pod_state([going, pod(RUNNING)], "worker-1") == "absent"


def test_the_clusters_own_words_are_kept() -> None:
    assert reasons(pod(conditions=(NO_PLACE,))) == [
        "Unschedulable: 0/2 nodes are available: 2 Insufficient memory."
    ]
    told = reasons(
        pod(
            {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            last={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
        )
    )
    assert told == ["CrashLoopBackOff: back-off", "OOMKilled (status 137): "]


def test_only_who_has_no_place_now_finds_none() -> None:
    assert finds_no_place(pods_of([made(), pod(conditions=(NO_PLACE,))], "worker-1") or ())
    assert not finds_no_place(pods_of([made(), pod(RUNNING)], "worker-1") or ())
    assert not finds_no_place(pods_of([made("2"), pod(conditions=(NO_PLACE,))], "worker-1") or ())
    assert not finds_no_place(pods_of([], "worker-1") or ())


# -- through kubectl -----------------------------------------------------------------------------


class Control(DeadMachine):
    """A control machine whose kubectl answers by its first word."""

    def __init__(self) -> None:
        super().__init__("cloud-1")
        self.items: list[dict[str, Any]] = []
        self.codes: dict[str, int] = {}
        self.asked: list[tuple[str, ...]] = []
        self.applied: list[dict[str, Any]] = []

    def run(self, command: Command) -> Result:
        words = command.arguments[3:]
        self.asked.append(words)
        if command.input is not None:
            self.applied += json.loads(command.input)["items"]
        kinds = words[1] if words[0] == "get" else ""
        items = [item for item in self.items if item.get("kind", "Node").lower() in kinds]
        said = json.dumps({"items": items}).encode() if kinds else b"said\n"
        return Result(command, self.codes.get(words[0], 0), said, b"", 0.0, self.name)


class Node(DeadMachine):
    """A machine whose files are there or not."""

    def __init__(self) -> None:
        super().__init__("cloud-2")
        self.files: dict[str, bytes] = {}
        self.gone = False

    def run(self, command: Command) -> Result:
        if self.gone:
            raise MachineUnreachable("it has stopped", where=self.name)
        words = command.arguments
        if words[0] == "rm":
            self.files.pop(words[2], None)
        there = "\n".join(path for path in words if path in self.files)
        return Result(command, 0, there.encode(), b"", 0.0, self.name)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        del mode
        self.files[path] = content


@pytest.fixture
def control() -> Control:
    return Control()


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def model(control: Control, node: Node) -> Container:
    return Container(EXPERIMENT, {"cloud-1": control, "cloud-2": node})


def test_a_start_forgets_the_last_and_asks_for_what_the_node_offers(
    model: Container, control: Control, node: Node
) -> None:
    offered = {"cpu": "2", "memory": f"{2**30}"}
    control.items = [{"metadata": {"name": "cloud-2"}, "status": {"allocatable": offered}}]
    node.files[WORKER.ready_file] = b""
    model.start(node, WORKER)
    model.start(node, WORKER)
    assert node.files == WORKER.files
    first, second = control.applied
    assert first["spec"]["template"] != second["spec"]["template"]
    (container,) = first["spec"]["template"]["spec"]["containers"]
    # The machine has 4 cores and 2 GiB, its node offers half.
    assert container["resources"]["requests"] == {"cpu": "1000m", "memory": f"{2**29}"}
    assert container["resources"]["limits"] == {"cpu": "2000m", "memory": f"{2**30}"}


def test_a_worker_is_ready_when_its_file_is_there(
    model: Container, control: Control, node: Node
) -> None:
    control.items = [made(), pod(RUNNING)]
    assert model.state(node, WORKER) == "starting"
    node.files[WORKER.ready_file] = b""
    assert model.state(node, WORKER) == "ready"
    silent = dataclasses.replace(WORKER, ready_file="")
    assert model.states(node, (silent,)) == {"worker-1": "ready"}


def test_who_asks_at_the_same_time_shares_a_look(
    model: Container, control: Control, node: Node
) -> None:
    control.items = [made(), pod(RUNNING)]
    silent = dataclasses.replace(WORKER, ready_file="")
    slow = threading.Event()
    looks: list[tuple[str, ...]] = []
    answer = control.run

    def run(command: Command) -> Result:
        looks.append(command.arguments)
        slow.wait(0.2)
        return answer(command)

    control.run = run  # type: ignore[method-assign]
    states = for_each(lambda _: model.state(node, silent), list(range(8)), threads=8)
    assert states == ["ready"] * 8
    # The first one looks; who asked meanwhile has to look again, but all of them once.
    assert 1 <= len(looks) <= 3
    assert model.state(node, silent) == "ready"
    assert len(looks) >= 2


def test_who_finds_no_place_for_long_has_failed(
    model: Container, control: Control, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    control.items = [made(), pod(conditions=(NO_PLACE,), phase="Pending")]
    assert model.state(node, WORKER) == "starting"
    now += subject.PLACE_LIMIT + 1
    assert model.state(node, WORKER) == "failed"
    assert "Insufficient memory" in model.log(node, WORKER)
    # It finds one, and none again: the time counts anew.
    control.items = [made(), pod({"waiting": {"reason": "ContainerCreating"}})]
    assert model.state(node, WORKER) == "starting"
    control.items = [made(), pod(conditions=(NO_PLACE,), phase="Pending")]
    assert model.state(node, WORKER) == "starting"


def test_without_a_control_plane_a_state_is_an_error(
    model: Container, control: Control, node: Node
) -> None:
    control.codes["get"] = 1
    with pytest.raises(StepFailed, match="the control plane does not answer"):
        model.state(node, WORKER)
    assert "the control plane does not answer" in model.log(node, WORKER)


def test_a_stop_waits_for_what_makes_pods(model: Container, control: Control, node: Node) -> None:
    model.stop(node, WORKER)
    model.stop_all(node, (WORKER,))
    one, every = control.asked
    assert one[:2] == every[:2] == ("delete", "deployments")
    assert "--selector=app.kubernetes.io/name=worker-1,continuum/machine=cloud-2" in one
    assert f"--selector={subject.OURS},continuum/machine=cloud-2" in every
    assert "--cascade=foreground" in one
    assert f"--timeout={subject.STOP_LIMIT:.0f}s" in one


def test_pods_of_a_machine_that_is_gone_are_not_waited_for(
    model: Container, control: Control, node: Node
) -> None:
    node.gone = True
    control.codes["delete"] = 1
    with pytest.raises(StepFailed, match="pods on cloud-2 could not be deleted"):
        model.stop(node, WORKER)
    patient, forced = control.asked
    assert "--timeout=1s" in patient
    assert forced[:2] == ("delete", "pods")
    assert "--force" in forced


def test_who_carries_containers_follows_from_the_manager() -> None:
    assert isinstance(Container(EXPERIMENT)._carrier, Pod)
    plain = EXPERIMENT.model_copy(update={"software": Software(execution_model="container")})
    assert not isinstance(Container(plain)._carrier, Pod)
