"""The logs that tell what became of pods: the API server's and containerd's, real lines first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.benchmark.applications.empty import containerd_log, timeline
from continuum.benchmark.applications.empty.audit_log import AuditLog
from continuum.benchmark.applications.empty.moments import nanoseconds

GOLDEN = Path(__file__).parents[1] / "golden" / "empty"
NAMESPACE = "continuum-pods"
POD = "empty-1-6jkmq"


def event(name: str, what: str, request: dict[str, Any], **changes: Any) -> bytes:
    whole = {
        "kind": "Event",
        "stage": "ResponseComplete",
        "verb": {"status": "patch"}.get(what, "create"),
        "objectRef": {
            "resource": "pods",
            "namespace": NAMESPACE,
            "name": name,
            **({"subresource": what} if what else {}),
        },
        "responseStatus": {"code": 200},
        "requestObject": request,
        "stageTimestamp": "2026-01-31T12:00:00.000001Z",
        **changes,
    }
    return json.dumps(whole).encode() + b"\n"


def status(name: str, **fields: Any) -> bytes:
    return event(name, "status", {"status": fields})


def read(*content: bytes) -> AuditLog:
    log = AuditLog(NAMESPACE)
    for each in content:
        log.feed(each)
    return log


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-11-24T12:18:16.861976396Z", 1795522696_861976396),
        ("2026-11-24T14:18:16.861976396+02:00", 1795522696_861976396),
        ("2026-11-24 12:18:16.861976Z", 1795522696_861976000),
    ],
)
def test_no_digit_of_a_time_is_lost(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize("text", ["", "None", "2026-11-24", "2026-13-24T12:00:00Z", "1 s ago"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        nanoseconds(text)


def test_a_pod_of_a_real_cluster() -> None:
    log = read((GOLDEN / "audit.log").read_bytes())
    (life,) = log.pods.values()
    assert life.name == POD  # generated, so only the answer tells it
    assert life.node == "cloud-4"
    assert life.created == nanoseconds("2026-11-24T12:18:12.969097Z")
    assert life.scheduled == nanoseconds("2026-11-24T12:18:13.023776Z")
    assert life.ready == nanoseconds("2026-11-24T12:18:19.949645Z")
    assert life.ready_at("empty") == life.ready
    assert (life.unscheduled, life.trouble, life.ended) == ("", "", False)


def test_the_same_pod_on_its_node() -> None:
    life = containerd_log.read((GOLDEN / "containerd.log").read_text(), NAMESPACE)
    assert life.sandboxes == {POD: nanoseconds("2026-11-24T12:18:16.668196413Z")}
    assert life.containers == {(POD, "empty"): nanoseconds("2026-11-24T12:18:16.861976396Z")}


def test_pods_of_other_namespaces_are_none_of_ours() -> None:
    text = (GOLDEN / "containerd.log").read_text()
    assert containerd_log.read(text, "kube-system") == containerd_log.NodeLife()
    assert AuditLog("kube-system").pods == {}
    other = AuditLog("kube-system")
    other.feed((GOLDEN / "audit.log").read_bytes())
    assert other.pods == {}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_log_may_come_in_any_pieces(size: int) -> None:
    whole = (GOLDEN / "audit.log").read_bytes()
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    assert read(*pieces).pods == read(whole).pods
    assert len(read(whole[:-1]).pods) == 1


def test_why_the_scheduler_found_no_node_is_kept_until_it_does() -> None:
    why = "0/4 nodes are available: 3 Insufficient memory."
    refused = {"type": "PodScheduled", "status": "False", "message": why}
    log = read(status("a", conditions=[refused]))
    assert log.pods["a"].unscheduled == why
    log.feed(event("a", "binding", {"target": {"name": "cloud-2"}}))
    assert (log.pods["a"].unscheduled, log.pods["a"].node) == ("", "cloud-2")


def test_what_keeps_a_container_from_starting_is_kept() -> None:
    state = {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}
    statuses = [{"name": "empty", "ready": False, "state": state}]
    log = read(status("a", containerStatuses=statuses))
    assert log.pods["a"].trouble == "ErrImageNeverPull: not present"
    state = {"waiting": {"reason": "ContainerCreating"}}
    statuses = [{"name": "empty", "ready": False, "state": state}]
    assert read(status("a", containerStatuses=statuses)).pods["a"].trouble == ""


def test_a_pod_that_ends_is_ended_and_one_that_fails_says_why() -> None:
    assert read(status("a", phase="Succeeded")).pods["a"].ended
    life = read(status("a", phase="Failed", message="The node was low on memory.")).pods["a"]
    assert (life.ended, life.trouble) == (True, "The node was low on memory.")


def test_containers_get_ready_one_by_one_and_all_with_their_pod() -> None:
    def at(second: int) -> dict[str, Any]:
        return {"stageTimestamp": f"2026-01-31T12:00:0{second}.000000Z"}

    one = {"containerStatuses": [{"name": "a", "ready": True}, {"name": "b", "ready": False}]}
    both = {"conditions": [{"type": "Ready", "status": "True"}]}
    log = read(
        event("p", "status", {"status": one}, **at(1)),
        event("p", "status", {"status": both}, **at(2)),
        event("p", "status", {"status": both}, **at(3)),
    )
    life = log.pods["p"]
    assert life.ready_at("a") == nanoseconds("2026-01-31T12:00:01Z")
    assert life.ready_at("b") == nanoseconds("2026-01-31T12:00:02Z")


@pytest.mark.parametrize(
    "changes",
    [
        {"responseStatus": {"code": 409}},
        {"stage": "ResponseStarted"},
        {"stageTimestamp": "soon"},
        {"verb": "delete"},
        {"objectRef": {"resource": "pods", "namespace": "default", "name": "a"}},
        {"objectRef": None},
    ],
)
def test_events_that_tell_nothing_of_our_pods_are_passed_over(changes: dict[str, Any]) -> None:
    assert read(event("a", "", {}, **changes)).pods == {}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["status", "conditions", "type", "containerStatuses", "state", "name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(request=_JSON, more=st.binary(max_size=60))
def test_no_content_makes_the_reader_fail(request: Any, more: bytes) -> None:
    log = read(event("a", "status", request), event("b", "binding", request), more)
    log.feed(b"\n")
    containerd_log.read(more.decode("utf-8", "replace"), NAMESPACE)
    assert set(log.pods) <= {"a", "b"}


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((1, 2, 3), [1, 2, 3]),
        ((5, 4, 9), [4, 4, 9]),
        ((5, None, 3), [3, None, 3]),
        ((None, 2, None), [None, 2, None]),
    ],
)
def test_no_step_is_over_after_the_next(
    times: tuple[int | None, ...], expected: list[int | None]
) -> None:
    assert timeline.in_order(times) == expected
