"""The API server's audit log, read as the lives of pods.

Its times are those at which a request had been carried out, with microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from continuum.benchmark.applications.empty.moments import nanoseconds

_TROUBLES = frozenset({"ContainerCreating", "PodInitializing", "Completed", ""})
"""What a container waits for, or why it ended, when nothing is wrong."""


@dataclass
class PodLife:
    """What became of one pod; times are Unix time in ns, None for what has not come to pass.

    Attributes:
        created, scheduled, ready: when the cluster held the pod, its node, and that all of its
            containers are ready.
        node: name of its node.
        containers: when each container was first seen ready, by its name.
        unscheduled: why the scheduler last found no node; empty when it found one.
        trouble: what last kept it from starting, or why it failed.
        ended: whether it has come to its end.
    """

    name: str
    created: int | None = None
    scheduled: int | None = None
    ready: int | None = None
    node: str | None = None
    containers: dict[str, int] = field(default_factory=dict)
    unscheduled: str = ""
    trouble: str = ""
    ended: bool = False

    def ready_at(self, container: str) -> int | None:
        """When a container was ready; with the whole pod at the latest."""
        return self.containers.get(container, self.ready)


class AuditLog:
    """The log as far as it has been read; `pods` come in the order of their creation."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._rest = b""
        self.pods: dict[str, PodLife] = {}

    def feed(self, content: bytes) -> None:
        """Read on. The last line may lack its end, which then comes with the next content.

        Lines that are no events, and events of other things, are passed over.
        """
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                self._event(event)

    def _event(self, event: Mapping[str, Any]) -> None:
        what = _table(event, "objectRef")
        code = _table(event, "responseStatus").get("code", 200)
        done = event.get("stage") == "ResponseComplete" and isinstance(code, int) and code < 300
        if not done or what.get("namespace") != self._namespace or what.get("resource") != "pods":
            return
        try:
            at = nanoseconds(str(event.get("stageTimestamp")))
        except ValueError:
            return
        request, verb = _table(event, "requestObject"), event.get("verb")
        match what.get("subresource"), verb:
            case None, "create":
                answer = _table(_table(event, "responseObject"), "metadata").get("name")
                name = answer or what.get("name")
                if isinstance(name, str):
                    self._life(name).created = at
            case "binding", "create":
                life = self._life(str(what.get("name")))
                node = _table(request, "target").get("name")
                life.scheduled, life.unscheduled = at, ""
                life.node = node if isinstance(node, str) else None
            case "status", ("patch" | "update"):
                _status(self._life(str(what.get("name"))), _table(request, "status"), at)
            case _:
                pass

    def _life(self, name: str) -> PodLife:
        return self.pods.setdefault(name, PodLife(name))


def _table(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = holder.get(key)
    return found if isinstance(found, dict) else {}


def _tables(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = holder.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _status(life: PodLife, status: Mapping[str, Any], at: int) -> None:
    """Take in a change of a pod's status, which may name only what is new."""
    for condition in _tables(status, "conditions"):
        # A condition that did not change may come without its status.
        match condition.get("type"), condition.get("status"):
            case "Ready", "True":
                life.ready = at if life.ready is None else life.ready
            case "PodScheduled", "False" if life.scheduled is None:
                life.unscheduled = str(condition.get("message") or condition.get("reason") or "")
            case _:
                pass
    for container in _tables(status, "containerStatuses"):
        name = container.get("name")
        if container.get("ready") is True and isinstance(name, str):
            life.containers.setdefault(name, at)
        for way in ("waiting", "terminated"):
            state = _table(_table(container, "state"), way)
            reason = str(state.get("reason") or "")
            if reason not in _TROUBLES:
                life.trouble = f"{reason}: {state.get('message') or ''}".strip(": ")
    if status.get("phase") in ("Succeeded", "Failed"):
        life.ended = True
    if status.get("phase") == "Failed" and status.get("message"):
        life.trouble = str(status["message"])
