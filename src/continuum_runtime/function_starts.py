"""Measures how long a function takes to be there, on a machine that reaches the gateway.

Started as `python3 -m continuum_runtime.function_starts`, with the fields of `Measure` as JSON on
standard input. It writes one JSON object: `seconds`, and `moments`, or `error` when something did
not come about within the time limit.

- `cold`: the function is removed; from the call that deploys it until its first good answer.
- `zero`: it is scaled to zero; from a call of the function until its good answer.
- `out`: from the call that scales it from one to N replicas until all are ready; `moments` holds
  the time of each further one. Afterwards there is one again.

A call that the gateway or the function refuses meanwhile is made again. Between looks there are
20 ms, and what a look takes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from continuum_runtime.openfaas import Deadline, Gateway, NoAnswer, TooLong

_CALL_SECONDS = 10.0
_GOOD = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


@dataclass(frozen=True)
class Measure:
    """What to measure.

    Attributes:
        gateway: the fields of `continuum_runtime.openfaas.Gateway`.
        kind: `cold`, `zero` or `out`.
        function: what the API is given to deploy it.
        content: file that it is asked with; "" to ask with nothing.
        replicas: for `out`.
        limit: seconds for each thing that is waited for.
    """

    gateway: dict[str, Any]
    kind: str
    function: dict[str, Any]
    content: str
    replicas: int
    limit: float


class Function:
    """A function behind its gateway."""

    def __init__(self, asked: Measure) -> None:
        self._asked = asked
        self._gateway = Gateway(**asked.gateway)
        self._name: str = asked.function["service"]
        self._content = Path(asked.content).read_bytes() if asked.content else b""

    def cold(self) -> tuple[float, list[float]]:
        """Seconds from the call that deploys it until its first answer."""
        gone = {HTTPStatus.NOT_FOUND}
        self._call("DELETE", "/system/functions", {"functionName": self._name}, also=gone)
        deadline = self._deadline()
        while self._look() is not None:
            deadline.pause("the function to be gone")
        while True:
            # What is left of the earlier one may be in the way for a moment.
            began = time.monotonic()
            status, text = self._try("POST", "/system/functions", self._asked.function)
            if status in _GOOD:
                break
            deadline.pause(f"the function to be taken: status {status}: {text}")
        return self._first_answer(began), []

    def zero(self) -> tuple[float, list[float]]:
        """Seconds from a call until its answer, with no replica there."""
        self._scale(0)
        self._await_replicas(lambda there: there == 0, "no replica")
        return self._first_answer(time.monotonic()), []

    def out(self) -> tuple[float, list[float]]:
        """Seconds from the call that scales it until all replicas are ready."""
        self._scale(1)
        self._await_replicas(lambda there: there == 1, "one replica")
        moments: list[float] = []
        began = time.monotonic()
        self._scale(self._asked.replicas)

        def note(there: int) -> bool:
            new = there - 1 - len(moments)
            moments.extend([time.monotonic() - began] * max(0, new))
            return there >= self._asked.replicas

        try:
            self._await_replicas(note, f"{self._asked.replicas} replicas")
        finally:
            self._scale(1)
        self._await_replicas(lambda there: there == 1, "one replica")
        return moments[-1], moments

    def _deadline(self) -> Deadline:
        return Deadline.after(self._asked.limit)

    def _scale(self, replicas: int) -> None:
        path = f"/system/scale-function/{quote(self._name, safe='')}"
        self._call("POST", path, {"serviceName": self._name, "replicas": replicas})

    def _await_replicas(self, enough: Callable[[int], bool], what: str) -> None:
        """Wait until the number of ready replicas is right, and the one that is asked for."""
        deadline = self._deadline()
        there = -1
        while True:
            found = self._look()
            there = int(found.get("availableReplicas", 0)) if found else there
            if found is not None and enough(there):
                return
            deadline.pause(f"{what} to be ready; {there} are")

    def _look(self) -> dict[str, Any] | None:
        status, text = self._try("GET", f"/system/function/{quote(self._name, safe='')}")
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status not in _GOOD:
            raise NoAnswer(f"status {status}: {text}")
        found: dict[str, Any] = json.loads(text)
        return found

    def _first_answer(self, began: float) -> float:
        deadline = self._deadline()
        reason = ""
        while True:
            try:
                status, content = self._gateway.invoke(
                    self._name, self._content, seconds=deadline.left
                )
                reason = f"status {status}: {content[:200].decode('utf-8', 'replace')}"
            except NoAnswer as error:
                status = 0
                # An attempt that the end has cut off tells less than the one before.
                if deadline.left > 0 or not reason:
                    reason = str(error)
            if status in _GOOD:
                return time.monotonic() - began
            deadline.pause(f"the function to answer; {reason}")

    def _try(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        status, content = self._gateway.call(method, path, body, seconds=_CALL_SECONDS)
        return status, content.decode("utf-8", "replace").strip()

    def _call(
        self, method: str, path: str, body: object, *, also: set[HTTPStatus] | None = None
    ) -> None:
        status, text = self._try(method, path, body)
        if status not in _GOOD and status not in (also or ()):
            raise NoAnswer(f"{method} {path}: status {status}: {text}")


def measured(asked: Measure) -> dict[str, Any]:
    """What the program writes."""
    function = Function(asked)
    try:
        seconds, moments = {"cold": function.cold, "zero": function.zero, "out": function.out}[
            asked.kind
        ]()
    except NoAnswer as error:
        return {"error": f"the gateway: {error}"}
    except TooLong as error:
        return {"error": f"waited {asked.limit:g} s for {error}"}
    return {"seconds": seconds, "moments": moments}


def main() -> None:
    """Measure what standard input asks for."""
    json.dump(measured(Measure(**json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
