"""TCP's settings: what is asked for, what a kernel lacks, and what is read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum.errors import CommandFailed, NotPossibleHere
from continuum.experiment.model import Tcp
from continuum.infrastructure import tcp
from continuum.machine import Command, Result
from continuum.testing.software import DeadMachine

CUBIC = tcp.settings(Tcp())
NONE = {tcp.CONGESTION_CONTROL: "unheard_of"}


def result(text: str = "", code: int = 0) -> Result:
    return Result(Command(("sysctl",)), code, text.encode(), b"", 0.0)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a kernel whose own congestion control is bbr has."""
    (tmp_path / tcp._AVAILABLE).write_text("reno bbr cubic\n")
    (tmp_path / tcp._ALLOWED).write_text("reno bbr\n")
    monkeypatch.setattr(tcp, "_file", lambda name: tmp_path / name)
    return tmp_path


def test_all_names_are_those_of_the_settings() -> None:
    assert set(tcp.NAMES) == set(CUBIC)
    assert set(tcp.everywhere(CUBIC)) < set(CUBIC)


@pytest.mark.usefixtures("kernel")
def test_a_congestion_control_that_the_kernel_lacks_is_refused() -> None:
    tcp.refuse(CUBIC)
    tcp.refuse({})
    with pytest.raises(NotPossibleHere, match='no TCP congestion control "unheard_of"') as caught:
        tcp.refuse(NONE)
    assert caught.value.exit_code == 3
    assert caught.value.where == "network.tcp.congestion_control"
    assert "it has bbr, cubic, reno" in caught.value.hint


def test_namespaces_are_allowed_what_they_need_once(kernel: Path) -> None:
    assert tcp.allow(CUBIC)
    assert (kernel / tcp._ALLOWED).read_text() == "reno bbr cubic"
    assert not tcp.allow(CUBIC)
    assert not tcp.allow({})
    (kernel / tcp._ALLOWED).unlink()
    assert not tcp.allow(CUBIC)


def test_what_a_machines_kernel_does_not_take_is_told() -> None:
    known = result("reno cubic\n")
    with pytest.raises(NotPossibleHere, match="the kernel of edge-1 has no TCP"):
        tcp.judge(result(code=255), NONE, known, "edge-1")
    with pytest.raises(CommandFailed, match="cannot set TCP's behaviour on edge-1"):
        tcp.judge(result(code=255), CUBIC, known, "edge-1")


class Telling(DeadMachine):
    """A machine that tells its settings."""

    control = "cubic"

    def run(self, command: Command) -> Result:
        assert command.arguments[:2] == ("sysctl", "-e")
        return result(
            f"net.ipv4.tcp_congestion_control = {self.control}\n"
            "net.ipv4.tcp_rmem = 4096\t131072\t6291456\n"
        )


def test_settings_are_read_back_with_who_differs() -> None:
    machines = [Telling("edge-1"), Telling("edge-2")]
    assert tcp.read(machines) == {
        "net.ipv4.tcp_congestion_control": "cubic",
        "net.ipv4.tcp_rmem": "4096 131072 6291456",
    }
    machines[1].control = "bbr"
    assert tcp.read(machines)["net.ipv4.tcp_congestion_control"] == "cubic (edge-1), bbr (edge-2)"
