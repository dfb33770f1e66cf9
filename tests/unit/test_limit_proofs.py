"""The proof of machines' limits: what is measured, when, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere, StepFailed
from continuum.infrastructure import proofs
from continuum.infrastructure.proofs import LimitProof
from continuum.infrastructure.providers.contract import Capabilities
from continuum.machine import Command, Machine, Result
from made_up_plans import CLOUD, EDGE, PLAN

CONTAINERS = Capabilities(
    one_clock=True,
    quota_covers="machine",
    disk_limits="",
    needs_root=True,
    limits=frozenset({"cores", "cpu_pin", "memory", "disk"}),
)
GUESTS = replace(CONTAINERS, own_kernels=True, limits=frozenset({"cores", "memory", "disk"}))
FINE: dict[str, Any] = {
    "available": 2,
    "failed": {},
    "cores": {"used": 1.49, "spare": 0.4},
    "memory": {"bytes": 2**30, "enforced": True},
    "disk_read": {"rate": 49.8e6, "busy": 0.01, "spare": 1.0},
    "disk_write": {"rate": 20.3e6, "busy": 0.01, "spare": 1.0},
}
OFF = {**FINE, "disk_write": {"rate": 866e6, "busy": 1.0, "spare": 1.0}}


class Probed(Machine):
    """Answers the probe, each time with the next answer."""

    def __init__(self, name: str, *answers: dict[str, Any]) -> None:
        self.name = name
        self.tasks: list[dict[str, Any]] = []
        self._answers = iter(answers)

    def run(self, command: Command) -> Result:
        assert command.input is not None
        self.tasks.append(json.loads(command.input))
        return Result(command, 0, json.dumps(next(self._answers)).encode(), b"", 0.0)

    def stream(self, command: Command) -> Iterator[str]:
        raise NotImplementedError


def proved(*machines: Machine, capabilities: Capabilities = CONTAINERS) -> dict[str, LimitProof]:
    plan = replace(PLAN, machines=(EDGE,))
    todo = proofs.pending(plan, capabilities, (), ())
    found = proofs.prove(plan, machines, todo, capabilities, lambda _: None)
    return {each.limit: each for each in found}


def verdict(limit: Any, value: float, *, own_kernel: bool = False, **answer: Any) -> str:
    return proofs.judge(limit, value, {**FINE, **answer}, own_kernel=own_kernel)[1]


def test_all_that_is_asked_is_measured_at_once_and_holds() -> None:
    machine = Probed("edge-1", FINE)
    found = proved(machine)
    assert {limit: each.verdict for limit, each in found.items()} == dict.fromkeys(
        ("cores", "cpu_pin", "memory", "disk_read", "disk_write"), "holds"
    )
    (task,) = machine.tasks
    assert task["cores"] == {"asked": 1.5, "seconds": 0.25, "own_kernel": False}
    assert task["disk_write"]["rate"] == 20_000_000


def test_only_what_does_not_hold_is_measured_again() -> None:
    machine = Probed("edge-1", OFF, OFF, FINE)
    assert proved(machine)["disk_write"].verdict == "holds"
    assert [list(each) for each in machine.tasks[1:]] == [["disk_write"], ["disk_write"]]


def test_a_limit_that_never_holds_is_refused_with_what_was_measured() -> None:
    found = proved(Probed("edge-1", OFF, OFF, OFF))
    with pytest.raises(NotPossibleHere) as caught:
        proofs.refuse(list(found.values()))
    assert caught.value.exit_code == 3
    assert caught.value.where == "edge-1"
    assert caught.value.output == "edge-1 disk_write: asked 20 MB/s, measured 866 MB/s"
    assert caught.value.hint


def test_attempts_that_contradict_each_other_show_nothing() -> None:
    short = {**FINE, "disk_write": {"rate": 12e6, "busy": 0.9, "spare": 1.0}}
    found = proved(Probed("edge-1", short, OFF, short))
    assert found["disk_write"].verdict == "not shown"
    assert "12 MB/s, 866 MB/s, 12 MB/s" in found["disk_write"].note
    proofs.refuse(list(found.values()))


def test_a_busy_host_gets_a_second_chance() -> None:
    busy = {**FINE, "cores": {"used": 0.4, "spare": 0.0}}
    machine = Probed("edge-1", busy, busy)
    assert proved(machine)["cores"].verdict == "at most"
    assert proved(Probed("edge-1", busy, FINE))["cores"].verdict == "holds"
    guest = Probed("edge-1", {**busy, "memory": {"bytes": 0.9 * 2**30, "enforced": True}})
    assert proved(guest, capabilities=GUESTS)["cores"].verdict == "at most"


def test_a_machine_without_the_probe_shows_nothing() -> None:
    class Bare(Probed):
        def run(self, command: Command) -> Result:
            raise StepFailed(f"no {command.arguments[0]}")

    found = proved(Bare("edge-1"))
    assert {each.verdict for each in found.values()} == {"not shown"}
    assert "no python3" in found["cores"].note


@pytest.mark.parametrize(
    ("used", "spare", "own_kernel", "expected"),
    [
        (1.60, 0.0, False, "holds"),
        (1.70, 0.0, False, "does not hold"),
        (1.40, 0.6, False, "holds"),
        (1.20, 0.6, False, "not shown"),
        (1.20, 0.1, False, "at most"),
        (1.20, 0.6, True, "at most"),
    ],
)
def test_cores(used: float, spare: float, own_kernel: bool, expected: str) -> None:
    found = verdict("cores", 1.5, own_kernel=own_kernel, cores={"used": used, "spare": spare})
    assert found == expected


def test_a_small_quota_is_allowed_the_kernels_ticks() -> None:
    assert verdict("cores", 0.02, cores={"used": 0.027, "spare": 1.0}) == "holds"
    assert verdict("cores", 0.02, cores={"used": 0.04, "spare": 1.0}) == "does not hold"


def test_cores_that_a_host_does_not_have_cannot_be_exceeded() -> None:
    answer = {"available": 2, "failed": {}}
    assert proofs.judge("cores", 2.0, answer, own_kernel=False)[:2] == (2, "holds")
    assert proofs.judge("cores", 8.0, answer, own_kernel=False)[:2] == (2, "at most")


@pytest.mark.parametrize(
    ("measured", "enforced", "own_kernel", "expected"),
    [
        (2**30, True, False, "holds"),
        (2**30, False, False, "does not hold"),
        (2**30, None, False, "not shown"),
        (2**31, True, False, "does not hold"),
        (2**29, True, False, "does not hold"),
        (None, True, False, "not shown"),
        (0.9 * 2**30, True, True, "holds"),
        (1.1 * 2**30, True, True, "does not hold"),
    ],
)
def test_memory(measured: float, enforced: bool | None, own_kernel: bool, expected: str) -> None:
    memory = {"bytes": measured, "enforced": enforced}
    assert verdict("memory", 2**30, own_kernel=own_kernel, memory=memory) == expected


@pytest.mark.parametrize(
    ("rate", "busy", "spare", "own_kernel", "expected"),
    [
        (19e6, 0.0, 1.0, False, "holds"),
        (21e6, 0.0, 1.0, False, "holds"),
        (21.1e6, 0.0, 1.0, False, "does not hold"),
        (18.9e6, 0.1, 1.0, False, "not shown"),
        (18.9e6, 0.9, 1.0, False, "at most"),
        (18.9e6, 0.1, 0.0, False, "at most"),
        (18.9e6, 0.1, 1.0, True, "at most"),
    ],
)
def test_disk(rate: float, busy: float, spare: float, own_kernel: bool, expected: str) -> None:
    found = verdict(
        "disk_write",
        20e6,
        own_kernel=own_kernel,
        disk_write={"rate": rate, "busy": busy, "spare": spare},
    )
    assert found == expected


def test_pinned_cores() -> None:
    assert verdict("cpu_pin", 2) == "holds"
    assert verdict("cpu_pin", 1) == "does not hold"


def test_what_could_not_be_measured_says_why() -> None:
    failed = {**FINE, "failed": {"disk_read": "OSError: Invalid argument"}}
    found = proofs.judge("disk_read", 20e6, failed, own_kernel=False)
    assert found == (None, "not shown", "OSError: Invalid argument")


def test_one_machine_of_each_tier_and_host_is_measured() -> None:
    second = replace(EDGE, name="edge-2")
    elsewhere = replace(EDGE, name="edge-3", host="other")
    plan = replace(PLAN, machines=(CLOUD, EDGE, second, elsewhere))
    everything = [spec.name for spec in plan.machines]
    assert list(proofs.pending(plan, CONTAINERS, (), everything)) == ["cloud-1", "edge-1", "edge-3"]
    assert list(proofs.pending(plan, CONTAINERS, (), ["edge-2"])) == ["cloud-1", "edge-2", "edge-3"]
    assert proofs.pending(plan, replace(CONTAINERS, limits=frozenset()), (), everything) == {}


def test_what_was_shown_is_not_measured_again() -> None:
    plan = replace(PLAN, machines=(EDGE,))
    before = list(proved(Probed("edge-1", FINE)).values())

    def left(*changed: str, plan: Any = plan, before: Any = before) -> set[str]:
        kept = proofs.valid(plan, CONTAINERS, before, changed)
        found = proofs.pending(plan, CONTAINERS, kept, changed)
        return set().union(*found.values())

    assert left() == set()
    assert len(left("edge-1")) == 5
    faster = replace(plan, machines=(replace(EDGE, disk_write=30_000_000),))
    assert left(plan=faster) == {"disk_write"}
    unsure = [replace(each, verdict="not shown") for each in before]
    assert len(left(before=unsure)) == 5


def test_proofs_are_kept_with_the_deployment(tmp_path: Path) -> None:
    deployment = Deployment("sample", tmp_path)
    assert proofs.load(deployment) == ()
    found = tuple(proved(Probed("edge-1", FINE)).values())
    proofs.save(deployment, found)
    assert proofs.load(deployment) == found
    (deployment.folder / proofs.FILE).write_text('[{"machine": 1}]')
    assert proofs.load(deployment) == ()


def test_a_guests_task_says_that_its_kernel_is_its_own() -> None:
    todo = proofs.limits_of(EDGE, GUESTS)
    assert "cpu_pin" not in todo
    task = proofs.task(todo, GUESTS)
    assert task["cores"]["own_kernel"]
    assert task["memory"] == {"own_kernel": True}
