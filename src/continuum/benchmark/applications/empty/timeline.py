"""From what was asked, and what the logs say, to one row for each pod or container. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from continuum.benchmark.applications.empty.audit_log import PodLife
from continuum.benchmark.applications.empty.containerd_log import NodeLife
from continuum.benchmark.applications.empty.pods import Asked, Wish, container_names

STEPS = ("created_ns", "scheduled_ns", "sandbox_ns", "started_ns", "ready_ns")
"""Columns of a row, in the order in which they come to pass."""

_MOST_REASONS = 5


@dataclass(frozen=True)
class Call:
    """One call as it was made: Unix time in ns; `status` is its exit code, None when cut off."""

    asked_ns: int
    ended_ns: int
    status: int | None
    said: str

    @property
    def failed(self) -> bool:
        """Whether the cluster may not have what was asked for."""
        return self.status != 0


@dataclass(frozen=True)
class Seen:
    """Everything that is known of a repetition.

    Attributes:
        whole: whether the audit log could be read to its end.
    """

    calls: Sequence[Call]
    pods: Mapping[str, PodLife]
    nodes: Sequence[NodeLife]
    whole: bool = True


@dataclass(frozen=True)
class Place:
    """Which container of which pod a row is about; `call` counts from 0."""

    pod: str | None
    container: str
    call: int


def places(wish: Wish, asked: Asked, pods: Mapping[str, PodLife]) -> list[Place]:
    """The rows in order. A Job names its pods itself: these count as they were created."""
    if asked.pods:
        each_own = len(asked.calls) > 1
        return [
            Place(name, "empty", number if each_own else 0)
            for number, name in enumerate(asked.pods)
        ]
    known = [name for name, life in pods.items() if life.created is not None][: wish.pods]
    found = [*known, *[None] * (wish.pods - len(known))]
    return [Place(pod, name, 0) for pod in found for name in container_names(wish)]


def is_over(place: Place, pods: Mapping[str, PodLife]) -> bool:
    """Whether nothing more can happen to a row: ready, or ended."""
    life = pods.get(place.pod or "")
    return life is not None and (life.ready_at(place.container) is not None or life.ended)


def rows(wish: Wish, asked: Asked, seen: Seen) -> list[dict[str, Any]]:
    """One row for each pod or container, but for what the benchmark itself fills in."""
    return [
        _row(sequence, place, seen) for sequence, place in enumerate(places(wish, asked, seen.pods))
    ]


def _row(sequence: int, place: Place, seen: Seen) -> dict[str, Any]:
    call = seen.calls[place.call] if place.call < len(seen.calls) else None
    life = seen.pods.get(place.pod or "", PodLife(""))
    key = (life.name, place.container)
    ready = life.ready_at(place.container)
    times = (
        life.created,
        life.scheduled,
        _first(node.sandboxes.get(life.name) for node in seen.nodes),
        _first(node.containers.get(key) for node in seen.nodes),
        ready,
    )
    return {
        "sequence": sequence,
        "warmup": False,
        "status": _status(call, life, ready),
        "intended_ns": call.asked_ns if call else None,
        "sent_ns": call.ended_ns if call else None,
        "answered_ns": ready,
        "result": None,
        "worker": life.node,
        "node": life.node,
        "pod": life.name or None,
        "container": place.container,
        **dict(zip(STEPS, in_order(times), strict=True)),
    }


def in_order(times: Sequence[int | None]) -> list[int | None]:
    """Times of steps, none after the time of a later step.

    Who made a pod may get the answer after others have seen it and gone on: a step is over at the
    latest when the next one is.
    """
    found: list[int | None] = []
    limit: int | None = None
    for time in reversed(times):
        if time is not None:
            limit = time if limit is None else min(limit, time)
        found.append(None if time is None else limit)
    return found[::-1]


def _first(values: Any) -> int | None:  # noqa: ANN401
    return min((value for value in values if value is not None), default=None)


def _status(call: Call | None, life: PodLife, ready: int | None) -> str:
    if ready is not None:
        return "ok"
    refused = call is None or (call.failed and life.created is None)
    return "error" if refused or (life.ended and life.trouble) else "lost"


def reasons(wish: Wish, asked: Asked, seen: Seen, waited: float) -> list[str]:
    """Why not everything got ready, in sentences; empty when it did.

    `waited` is how long after the last call it was looked, in s.
    """
    rows_ = places(wish, asked, seen.pods)
    whole = f"of {len(rows_)} {wish.noun}s"
    found: dict[str, int] = {}
    for place in rows_:
        why = _why(place, seen, waited)
        if why:
            found[why] = found.get(why, 0) + 1
    common = sorted(found.items(), key=lambda item: -item[1])
    said = [f"{count} {whole} {why}" for why, count in common[:_MOST_REASONS]]
    rest = sum(count for _, count in common[_MOST_REASONS:])
    return [*said, f"{rest} {whole} did not get ready for other reasons"] if rest else said


def _why(place: Place, seen: Seen, waited: float) -> str:
    """Why a row did not get ready, in half a sentence; empty when it did."""
    life = seen.pods.get(place.pod or "", PodLife(""))
    call = seen.calls[place.call] if place.call < len(seen.calls) else None
    if life.ready_at(place.container) is not None:
        return ""
    if call is None:
        why = "were not asked for in time"
    elif not seen.whole:
        why = "were not ready when the audit log could no longer be read"
    elif life.created is None:
        why = f"were not created: {call.said}" if call.failed else "were not created"
    elif life.scheduled is None:
        why = f"found no node: {life.unscheduled or 'the scheduler said nothing'}"
    elif life.trouble:
        why = f"did not start: {life.trouble}"
    elif life.ended:
        why = "ended before they were seen ready: a longer sleep_time shows them"
    else:
        why = f"on {life.node} were not ready {waited:.0f} s after the last call"
    return why
