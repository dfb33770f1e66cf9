"""Distrust of what machines say to a watcher: any machine may say anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from continuum.deployment import Deployment
from continuum.machine import Ask
from continuum.watch import watcher


class _Machine:
    name = "edge-1"

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    @contextmanager
    def converse(self, _: object) -> Iterator[Ask]:
        yield lambda _: self._answer


@pytest.mark.parametrize(
    "answer", [b"", b"[", b"[" * 200_000, b"[]", b"1", b"{}", b'{"cpu_ns": 1}', b"\xff"]
)
def test_a_machine_that_talks_nonsense_is_told_as_such(answer: bytes) -> None:
    deployment = Deployment.named("paper")
    deployment.folder.mkdir(parents=True)
    watched = watcher._OneDeployment(deployment, lambda _: pytest.fail("it is not asked"))
    machine: Any = _Machine(answer)
    watched._follow(machine)
    assert "what it says cannot be read" in watched._told.problems["edge-1"]
