"""The broker: its configuration, its unit, and when it counts as ready."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest

from continuum.errors import TimedOut
from continuum.images.recipe import Recipe
from continuum.machine import Command, Result, run_on_host
from continuum.software.configure import ROLES
from continuum.software.services import mqtt
from continuum.software.services.mqtt import Mqtt
from continuum.testing.software import DeadMachine, small_experiment, small_plan


def configuration() -> list[str]:
    """The lines of an edge machine's configuration that say something."""
    experiment = small_experiment()
    (play,) = Mqtt().configure(experiment, small_plan(experiment), ("edge-1", "edge-2"))
    variables = {**play.variables, **play.per_machine["edge-2"]}
    template = (ROLES / "mqtt" / "templates" / "mosquitto.conf.j2").read_text()
    text = jinja2.Template(template, undefined=jinja2.StrictUndefined).render(variables)
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_it_listens_on_the_emulated_network_and_on_the_machine_itself_only() -> None:
    listeners = [line for line in configuration() if line.startswith("listener")]
    assert listeners == ["listener 1883 10.20.1.2", "listener 1883 127.0.0.1"]


def test_answers_do_not_wait_and_nothing_is_kept() -> None:
    assert {"set_tcp_nodelay true", "persistence false"} <= set(configuration())


def test_the_unit_waits_for_its_configuration(tmp_path: Path) -> None:
    (tree,) = Recipe.collect(Mqtt().install()).trees
    tree.write(tmp_path, lambda _: None)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.relative_to(tmp_path).parts[:3] == ("etc", "systemd", "system")
    assert path.read_text() == tree.inputs
    assert f"ConditionPathExists={mqtt.CONFIGURATION}\n" in tree.inputs


class Here(DeadMachine):
    """Runs commands on this host."""

    def __init__(self) -> None:
        super().__init__()
        self.address = "127.0.0.1"

    def run(self, command: Command) -> Result:
        program, *arguments = command.arguments
        assert program == "python3"
        return run_on_host(Command((sys.executable, *arguments), timeout=command.timeout))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(mqtt, "PORT", server.getsockname()[1])
        yield server


@pytest.mark.parametrize(
    ("pieces", "ready"),
    [
        ((b"\x20\x02\x00\x00",), True),
        ((b"\x20", b"\x02\x00\x00"), True),
        ((b"\x20\x02\x00\x05",), False),
        ((b"HTTP",), False),
        ((b"\x20\x02",), False),
        ((), False),
    ],
    ids=["accepts", "accepts in pieces", "refuses", "is no broker", "breaks off", "hangs up"],
)
def test_it_is_ready_when_it_accepts_a_client(
    broker: socket.socket, pieces: tuple[bytes, ...], *, ready: bool
) -> None:
    asked: list[bytes] = []

    def answer() -> None:
        client, _ = broker.accept()
        with client:
            asked.append(client.recv(100))
            for piece in pieces:
                client.sendall(piece)

    thread = threading.Thread(target=answer)
    thread.start()
    assert Mqtt().ready(Here()) is ready
    thread.join(10)
    (connect,) = asked
    assert connect[1] == len(connect) - 2
    assert connect[4:9] == b"MQTT\x04"


def test_it_is_not_ready_when_nothing_listens(broker: socket.socket) -> None:
    broker.close()
    assert Mqtt().ready(Here()) is False


class Stuck(DeadMachine):
    """A machine on which no command ends."""

    def run(self, command: Command) -> Result:
        raise TimedOut(f"`{command}` did not end")


def test_it_is_not_ready_when_the_machine_is_stuck() -> None:
    assert Mqtt().ready(Stuck()) is False
