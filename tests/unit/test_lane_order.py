"""Which lane gets which file of tests."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from xdist.remote import Producer

from lane_order import LaneOrder
from side_by_side import gives_way

MACHINES = ("tests/e2e/test_first.py", "tests/e2e/test_second.py", "tests/e2e/test_third.py")
SMALL = ("tests/unit/test_a.py", "tests/unit/test_b.py", "tests/unit/test_c.py")
MEASURING = "tests/e2e/test_measuring.py"
SLOW = "tests/unit/test_slow.py"
MARKS = {**dict.fromkeys(MACHINES, "e2e"), SLOW: "slow", MEASURING: "measures"}
FILES = (*MACHINES, MEASURING, *SMALL, SLOW)


class Node:
    """A worker of pytest: what it was told to run, and whether to end then."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.told: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.told += indices

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def tests(tmp_path: Path) -> list[str]:
    for file in FILES:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"pytestmark = pytest.mark.{MARKS.get(file, 'others')}\n")
    return [f"{file}::test_{number}" for file in FILES for number in range(3)]


def run(tests: list[str], folder: Path, *, others: int = 1) -> dict[str, list[str]]:
    """Who runs which tests; those of lanes that do not give way take so much longer."""
    options = SimpleNamespace(tx=["3*popen"], loadscopereorder=False)
    config: Any = SimpleNamespace(
        rootpath=folder, option=options, getvalue=lambda name: getattr(options, name)
    )
    order = LaneOrder(config, Producer("order", enabled=False))
    nodes = [Node(name) for name in ("gw0", "gw1", "gw2")]
    for node in nodes:
        order.add_node(node)
    for node in nodes:
        order.add_node_collection(node, tests)
    order.schedule()
    ended = dict.fromkeys(nodes, 0)
    for turn in itertools.count():
        if order.tests_finished:
            break
        for node in nodes if turn % others == 0 else nodes[2:]:
            # As a worker does: it begins a test when it knows the next one, or that there is none.
            if len(node.told) - ended[node] > (0 if node.shutting_down else 1):
                order.mark_test_complete(node, node.told[ended[node]])
                ended[node] += 1
    return {node.gateway.id: [tests[each] for each in node.told] for node in nodes}


def test_every_test_is_run_once_and_files_stay_whole(tests: list[str], tmp_path: Path) -> None:
    told = run(tests, tmp_path)
    assert sorted(test for each in told.values() for test in each) == sorted(tests)
    files = [list(dict.fromkeys(test.split("::")[0] for test in each)) for each in told.values()]
    assert sum(map(len, files)) == len(FILES)


def test_a_lane_that_gives_way_gets_small_files_and_begins_at_the_end(
    tests: list[str], tmp_path: Path
) -> None:
    told = run(tests, tmp_path)
    assert [gives_way(name) for name in told] == [False, False, True]
    assert told["gw2"][0].startswith(SMALL[-1])
    assert not any(test.startswith(MEASURING) for test in told["gw2"])


def test_when_no_small_file_is_left_it_gets_others_that_do_not_measure(
    tests: list[str], tmp_path: Path
) -> None:
    told = run(tests, tmp_path, others=50)
    assert {test.split("::")[0] for test in told["gw2"]} == {*SMALL, SLOW, MACHINES[2]}


def test_machines_come_first_and_no_lane_has_two_files_of_them_ahead(
    tests: list[str], tmp_path: Path
) -> None:
    told = run(tests, tmp_path)
    assert told["gw0"][0].startswith(MACHINES[0])
    assert told["gw1"][0].startswith(MACHINES[1])
    assert sum(test.startswith(MACHINES[2]) for test in (*told["gw0"], *told["gw1"])) == 3
