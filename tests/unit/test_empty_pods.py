"""What `empty` asks of the cluster, and what it refuses before there is one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from continuum.benchmark.applications.empty import Empty, capacity
from continuum.benchmark.applications.empty.driver import PodDriver
from continuum.benchmark.applications.empty.pods import Wish, ask
from continuum.benchmark.configure import configure
from continuum.errors import NotPossibleHere
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.infrastructure.plan import InfrastructurePlan, NetworkPlan
from continuum.software.managers.kubernetes.audit import NAMESPACE, audit_policy

GOLDEN = Path(__file__).parents[1] / "golden" / "empty"
MIB = 2**20


def wish(deployment: Any = "pod", *, pods: int = 4, **fields: Any) -> Wish:
    whole = {"containers": 1, "sleep": 30.0, "image": "continuum.local/busybox:0", **fields}
    return Wish(deployment, ("cloud-2", "cloud-3"), pods, **whole)


def tier(machines: int = 3, **fields: Any) -> Tier:
    return Tier.model_validate({"machines": machines, "cores": 2, "memory": "4 GiB", **fields})


def experiment(cloud: Tier | None = None, **benchmark: Any) -> Experiment:
    return Experiment(
        name="made-up",
        tiers={"cloud": cloud or tier()},
        software=Software(manager="kubernetes"),
        benchmark=Benchmark.model_validate(
            {"application": "empty", "workers": "cloud", "endpoints": "", **benchmark}
        ),
    )


def empty(**settings: Any) -> Empty:
    return Empty(Empty.settings_type.model_validate(settings))


def plan_of(asked: Experiment, application: Empty) -> PodDriver:
    network = NetworkPlan("bridge", None, "10.0.0.1", {})  # type: ignore[arg-type]
    whole = configure(
        asked, InfrastructurePlan("made-up", "0", "fake", "0", (), network), application
    )
    assert isinstance(whole.driver, PodDriver)
    assert whole.workers == ()
    return whole.driver


# -- objects and calls ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deployment", "objects", "calls"),
    [
        ("pod", {"Job": 1}, 1),
        ("container", {"Job": 1}, 1),
        ("file", {"Pod": 4}, 1),
        ("call", {"Pod": 4}, 4),
    ],
)
def test_each_way_to_ask(deployment: str, objects: dict[str, int], calls: int) -> None:
    asked = ask(wish(deployment), 1)
    kinds = Counter(json.loads(text)["kind"] for text in asked.files.values())
    assert (kinds, len(asked.calls)) == (objects, calls)
    for arguments in asked.arguments("/folder"):
        assert arguments[0].endswith("kubectl")
        assert f"--namespace={NAMESPACE}" in arguments


def test_the_objects_are_as_they_were() -> None:
    asked = ask(wish(cpu=0.05, memory=64 * MIB, shares=(0.5, 1.0), pinned=True), 2)
    (text,) = asked.files.values()
    assert text == (GOLDEN / "job.json").read_text()


def test_all_pods_of_a_job_may_run_at_once_and_none_is_made_twice() -> None:
    (text,) = ask(wish(pods=7), 1).files.values()
    spec = json.loads(text)["spec"]
    assert (spec["completions"], spec["parallelism"]) == (7, 7)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_containers_of_one_pod_are_spread_by_pods_over_the_machines() -> None:
    (text,) = ask(wish("container", pods=2, containers=12), 1).files.values()
    job = json.loads(text)["spec"]
    names = [each["name"] for each in job["template"]["spec"]["containers"]]
    assert job["completions"] == 2
    assert names == sorted(set(names))
    assert len(names) == 12
    assert job["template"]["spec"]["topologySpreadConstraints"]


def test_one_call_takes_the_whole_folder_and_many_take_a_file_each() -> None:
    assert ask(wish("file"), 1).arguments("/f")[0][-1] == "/f"
    paths = [arguments[-1] for arguments in ask(wish("call"), 1).arguments("/f")]
    assert paths == [f"/f/empty-1-{number}.json" for number in range(1, 5)]


def test_names_of_repetitions_differ() -> None:
    assert not set(ask(wish("file"), 1).pods) & set(ask(wish("file"), 2).pods)


def test_the_audit_policy_notes_nothing_but_our_pods() -> None:
    *rules, last = audit_policy()["rules"]
    assert last == {"level": "None"}
    assert all(rule["namespaces"] == [NAMESPACE] for rule in rules)


# -- the plan ------------------------------------------------------------------------------------


def test_pods_of_the_plan() -> None:
    driver = plan_of(experiment(workers_per_machine=50), empty(sleep_time="30 s"))
    assert driver.control == "cloud-1"
    assert driver.wish.machines == ("cloud-2", "cloud-3")
    assert (driver.wish.total, driver.wish.sleep) == (100, 30.0)
    assert not driver.wish.pinned
    assert driver.machines == ("cloud-1", "cloud-2", "cloud-3")
    assert driver.lines[0] == "100 pods on 2 machines, by one Job"


def test_pods_that_do_not_share_equally() -> None:
    assert plan_of(experiment(), empty(pods=25)).wish.total == 25


def test_containers_of_the_plan() -> None:
    asked = experiment(workers_per_machine=10)
    application = empty(deployment="container")
    driver = plan_of(asked, application)
    assert (driver.wish.pods, driver.wish.containers, driver.wish.total) == (2, 10, 20)
    assert application.noun == "container"


def test_pods_at_the_edge_do_without_the_token_of_their_account() -> None:
    asked = experiment(workers="edge").model_copy(
        update={
            "tiers": {"cloud": tier(1), "edge": tier(2)},
            "software": Software(manager="kubeedge"),
        }
    )
    wish = plan_of(asked, empty()).wish
    assert not wish.token
    assert not wish.pinned
    (text,) = ask(wish, 1).files.values()
    assert json.loads(text)["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_nodes_that_are_not_for_pods_are_kept_free_of_them() -> None:
    asked = experiment(workers="edge").model_copy(
        update={"tiers": {"cloud": tier(3), "edge": tier(2)}}
    )
    wish = plan_of(asked, empty()).wish
    assert wish.pinned
    assert wish.machines == ("edge-1", "edge-2")


@pytest.mark.parametrize(
    ("benchmark", "settings", "reason"),
    [
        ({"workers_per_machine": 111}, {}, "111 pods on each machine; a node carries at most 110"),
        ({}, {"pods": 221}, "111 pods on each machine"),
        ({"workers_per_machine": 501}, {"deployment": "container"}, "501 containers in one pod"),
        ({"workers_per_machine": 5, "worker_cpu": 0.5}, {}, "5 pods of 0.5 cores on each machine"),
        ({"workers_per_machine": 8, "worker_memory": "512 MiB"}, {}, "8 pods of 512 MiB on each"),
        ({}, {"runtime": "kata-qemu"}, "runtime kata-qemu"),
        ({}, {"runtime_filesystem": "devmapper"}, "runtime_filesystem devmapper"),
        ({}, {"pods": 5, "deployment": "container"}, "`pods` is for one container in each"),
    ],
)
def test_more_than_the_nodes_can_hold_is_refused_before_there_are_any(
    benchmark: dict[str, Any], settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(NotPossibleHere, match="does not fit") as caught:
        plan_of(experiment(**benchmark), empty(**settings))
    assert reason in caught.value.message


def test_what_just_fits_is_taken() -> None:
    asked = experiment(workers_per_machine=40, worker_cpu=0.05, worker_memory="100 MiB")
    assert empty().skip(asked) is None
    small = experiment(tier(2, memory="512 MiB"), workers_per_machine=100)
    assert "take about" in (empty().skip(small) or "")


def test_what_nodes_cannot_hold_is_nothing_wrong_and_names_its_key() -> None:
    asked = experiment(tier(2, memory="512 MiB"), workers_per_machine=100)
    found = empty().misfit(asked)
    assert found is not None
    assert (found.lacking, found.path) == (True, ("benchmark", "workers_per_machine"))
    found = empty(pods=200).misfit(asked)
    assert found is not None
    assert (found.lacking, found.path) == (True, ("benchmark", "empty", "pods"))
    found = empty(runtime="kata-qemu").misfit(asked)
    assert found is not None
    assert (found.lacking, found.path) == (True, ("benchmark", "empty", "runtime"))
    found = empty().misfit(experiment(tier(1)))
    assert found is not None
    assert not found.lacking


def test_a_cluster_is_needed_with_a_machine_for_pods() -> None:
    alone = experiment().model_copy(update={"software": Software()})
    assert "need a cluster" in (empty().skip(alone) or "")
    assert "no machine for pods" in (empty().skip(experiment(tier(1))) or "")


def test_what_pods_take_up_is_scaled_to_what_the_host_has() -> None:
    large = tier(2, cores=8, memory="60 GiB")
    cores, memory = capacity.share_of_host(large, 2, 24 * 2**30)
    assert cores == 0.25
    assert memory == pytest.approx(0.4, rel=0.01)
    assert capacity.share_of_host(large, 64, 2**40) == (1.0, 1.0)
    (text,) = ask(wish(cpu=0.05, memory=1000, shares=(cores, 0.5)), 1).files.values()
    (container,) = json.loads(text)["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "limits": {"cpu": "50m", "memory": "1000"},
        "requests": {"cpu": "12m", "memory": "500"},
    }


def test_its_columns_are_in_its_samples_and_its_quantities_in_its_columns() -> None:
    from continuum.benchmark.samples import table

    whole = table([], empty().columns())
    names = set(whole.schema.names)
    for quantity in empty().quantities():
        assert {quantity.finish, quantity.start} <= names
