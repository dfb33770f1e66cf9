"""The user-space emulator's process, and what TCP sees of a link."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from continuum import native
from continuum.deployment import Deployment
from continuum.errors import CommandFailed
from continuum.infrastructure.links import process, series
from continuum.infrastructure.links.choose import choose
from continuum.infrastructure.links.contract import Interface, Window
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.links.places import places
from continuum.infrastructure.plan import LinkSettings
from continuum.machine import Command
from continuum.parallel import for_each
from continuum.testing.link_lab import Lab, lab, make_plan

pytestmark = [pytest.mark.e2e, pytest.mark.measures]

LINKS = {
    ("edge", "endpoint"): LinkSettings(10, 0, 0, 7.21),
    ("endpoint", "edge"): LinkSettings(10, 0, 0, 7.21),
}
PLAN = make_plan({"edge": 1, "endpoint": 1}, LINKS)

SERVE = """
import socket, time
with socket.create_server(("", 47013)) as server:
    server.settimeout(20)
    connection, _ = server.accept()
count, began = 0, None
while data := connection.recv(65536):
    now = time.monotonic()
    if began is None and (count := count + len(data)) > 100_000:
        began, count = now, 0
    elif began is not None:
        count, last = count + len(data), now
print(count * 8e-6 / (last - began))
"""

SEND = """
import socket, sys, time
for _ in range(200):
    try:
        connection = socket.create_connection((sys.argv[1], 47013), timeout=20)
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
connection.sendall(bytes(1_500_000))
connection.close()
"""

REACH = """
import socket, sys
opened = socket.socket()
opened.settimeout(float(sys.argv[2]))
try:
    opened.connect((sys.argv[1], 9))
except ConnectionRefusedError:
    print("reached")
except TimeoutError:
    print("stopped")
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment("lab", tmp_path)


@pytest.fixture
def running(deployment: Deployment) -> Iterator[Lab]:
    reason = Nfqueue().probe()
    if reason is not None:
        pytest.skip(reason)
    with lab(PLAN) as made:
        try:
            yield made
        finally:
            Nfqueue().remove(deployment)


def reach(running: Lab, limit: float = 5.0) -> str:
    edge, endpoint = running.machines
    command = Command(("python3", "-c", REACH, endpoint.address, str(limit)))
    return edge.run(command).check().text


def emulator(deployment: Deployment) -> int:
    (found,) = process.find(deployment.identity)
    return found


@pytest.fixture(params=["compiled", "python"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either program; the compiled one needs a compiler."""
    name: str = request.param
    if name == "python":
        monkeypatch.setattr(native, "program", lambda _: None)
    elif native.program(process.PROGRAM) is None:
        pytest.skip("no C compiler")
    return name


@contextmanager
def handle(number: int) -> Iterator[int]:
    descriptor = os.pidfd_open(number)
    yield descriptor
    os.close(descriptor)


def test_without_the_process_packets_stop(running: Lab, deployment: Deployment) -> None:
    emulator_ = Nfqueue()
    emulator_.apply(deployment, PLAN, running.interfaces)
    assert reach(running) == "reached"
    with handle(emulator(deployment)) as one:
        signal.pidfd_send_signal(one, signal.SIGKILL)
        assert select.select([one], [], [], 10)[0]
    assert reach(running, 1.0) == "stopped"
    assert emulator_.in_force(deployment, PLAN, running.interfaces) == []
    assert emulator_.apply(deployment, PLAN, running.interfaces)
    assert reach(running) == "reached"


def test_what_it_did_is_counted_and_a_pause_is_seen(
    running: Lab, deployment: Deployment, program: str
) -> None:
    def rows() -> list[Window]:
        return series.read(deployment, PLAN, running.interfaces, begin, time.time_ns() + 10**9)

    begin = time.time_ns()
    Nfqueue().apply(deployment, PLAN, running.interfaces)
    known = process.running(deployment)
    assert known is not None
    assert known["program"] == program
    assert reach(running) == "reached"
    with handle(emulator(deployment)) as one:
        signal.pidfd_send_signal(one, signal.SIGSTOP)
        assert reach(running, 1.0) == "stopped"
        signal.pidfd_send_signal(one, signal.SIGCONT)
        deadline = time.monotonic() + 10
        while max((row.late_max_ms for row in rows()), default=0.0) < 500:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = rows()
        assert {(row.source, row.destination) for row in found} == set(LINKS)
        assert all(row.overflow == row.lost == 0 for row in found)
        # 10 ms, and what 74 bytes take at 7.21 Mbit/s.
        assert {round(row.delay_ms, 3) for row in found if row.packets} == {10.082, 10.06}
        signal.pidfd_send_signal(one, signal.SIGKILL)
        assert select.select([one], [], [], 10)[0]
    assert all(not place.running() for place, _ in places(deployment, running.interfaces))


def test_it_ends_with_the_last_machine(running: Lab, deployment: Deployment) -> None:
    # Processes stand for the machines: namespaces are told by them, as a provider does.
    machines = [
        subprocess.Popen(("nsenter", f"--net={each.namespace}", "sleep", "120"))
        for each in running.interfaces
    ]
    try:
        for each in machines:
            wait_for_namespace(each.pid)
        interfaces = [
            Interface(each.machine, f"/proc/{init.pid}/ns/net")
            for each, init in zip(running.interfaces, machines, strict=True)
        ]
        Nfqueue().apply(deployment, PLAN, interfaces)
        with handle(emulator(deployment)) as one:
            machines[0].kill()
            machines[0].wait()
            assert not select.select([one], [], [], 0.5)[0]
            machines[1].kill()
            assert select.select([one], [], [], 10)[0]
        assert not (deployment.folder / process.STATE).exists()
    finally:
        for each in machines:
            each.kill()
            each.wait()


def wait_for_namespace(number: int) -> None:
    """Until `nsenter` has become the program in the namespace."""
    with handle(number) as one:
        for _ in range(500):
            if b"sleep\0" in Path(f"/proc/{number}/cmdline").read_bytes()[:6]:
                return
            assert not select.select([one], [], [], 0.02)[0]
    raise AssertionError("the machine's process does not start")


def test_a_machine_that_came_back_is_served(running: Lab, deployment: Deployment) -> None:
    Nfqueue().apply(deployment, PLAN, running.interfaces)
    before = emulator(deployment)
    moved = [Interface(each.machine, f"/var{each.namespace}") for each in running.interfaces]
    assert Nfqueue().apply(deployment, PLAN, moved)
    assert emulator(deployment) != before
    assert Nfqueue().in_force(deployment, PLAN, moved) == list(PLAN.network.links)


def test_it_keeps_no_lock_of_its_parent(running: Lab, deployment: Deployment) -> None:
    with deployment.journal.locked():
        Nfqueue().apply(deployment, PLAN, running.interfaces)
        opened = Path(f"/proc/{emulator(deployment)}/fd")
        names = {str(each.readlink()) for each in opened.iterdir()}
    assert not any(name.endswith(".lock") for name in names)
    with deployment.journal.locked():
        pass


def test_a_queue_that_another_has_is_an_error(running: Lab, deployment: Deployment) -> None:
    other = Deployment("other", deployment.root)
    Nfqueue().apply(other, PLAN, running.interfaces)
    try:
        with pytest.raises(CommandFailed) as caught:
            Nfqueue().apply(deployment, PLAN, running.interfaces)
        assert "packet queue" in caught.value.output
        assert process.find(deployment.identity) == []
        assert Nfqueue().in_force(other, PLAN, running.interfaces) == list(PLAN.network.links)
    finally:
        Nfqueue().remove(other)


@pytest.mark.quiet
def test_tcp_gets_the_rate_and_no_more(running: Lab, deployment: Deployment) -> None:
    choose("auto").apply(deployment, PLAN, running.interfaces)
    edge, endpoint = running.machines
    programs = [
        (endpoint, ("python3", "-c", SERVE)),
        (edge, ("python3", "-c", SEND, endpoint.address)),
    ]
    said = for_each(lambda each: each[0].run(Command(each[1])).check().text, programs)
    # 1448 bytes of a frame's 1514 are the application's.
    assert float(said[0]) * 1514 / 1448 == pytest.approx(7.21, rel=0.05)
