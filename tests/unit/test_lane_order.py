"""Which lane gets which file of tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from lane_order import LaneOrder

FILES = ("tests/test_first.py", "tests/test_second.py", "tests/test_third.py")
TESTS = [f"{file}::test_{number}" for file in FILES for number in range(2)]


class Node:
    """A worker of pytest: what it was told to run, and whether to end then."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.told: list[int] = []
        self.ended = 0
        self.shutting_down = False

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(TESTS[each].split("::")[0] for each in self.told))

    @property
    def begins(self) -> bool:
        """A worker begins a test when it knows the next one, or that there is none."""
        return len(self.told) - self.ended > (0 if self.shutting_down else 1)

    def send_runtest_some(self, indices: list[int]) -> None:
        self.told += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def nodes() -> list[Node]:
    return [Node("gw0"), Node("gw1")]


@pytest.fixture
def order(nodes: list[Node]) -> LaneOrder:
    options = SimpleNamespace(tx=["2*popen"], loadscopereorder=False)
    config: Any = SimpleNamespace(option=options, getvalue=vars(options).get)
    made = LaneOrder(config, Producer("order", enabled=False))
    for node in nodes:
        made.add_node(node)
    for node in nodes:
        made.add_node_collection(node, TESTS)
    made.schedule()
    return made


def end_test(order: LaneOrder, node: Node) -> None:
    assert node.begins
    order.mark_test_complete(node, node.told[node.ended])
    node.ended += 1


def test_no_lane_has_a_file_ahead_that_another_could_begin(
    order: LaneOrder, nodes: list[Node]
) -> None:
    first, second = nodes
    assert (first.files, second.files) == ([FILES[0]], [FILES[1]])
    # The first lane is still in its first test when the other is through with its own.
    end_test(order, second)
    assert second.files == [FILES[1], FILES[2]]
    assert first.files == [FILES[0]]


def test_every_test_is_run_once(order: LaneOrder, nodes: list[Node]) -> None:
    while not order.tests_finished:
        for node in nodes:
            if node.begins:
                end_test(order, node)
    told = [TESTS[each] for node in nodes for each in node.told]
    assert sorted(told) == sorted(TESTS)
