"""How far machines' clocks are from this host's: the arithmetic, and the exchanges themselves."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import continuum_runtime
from continuum.errors import CommandFailed, MachineUnreachable, StepFailed, TimedOut
from continuum.infrastructure import clocks
from continuum.infrastructure.clocks import Exchange, best, measure, measure_some, offset
from continuum.machine import Ask, Command, Machine, Result, converse_on_host, run_on_host
from continuum.testing.software import DeadMachine

RUNTIME = str(Path(continuum_runtime.__file__).parent.parent)


class Here(DeadMachine):
    """This host, whose clock is its own; commands are run as they are."""

    def __init__(self, name: str = "edge-1") -> None:
        super().__init__(name)
        self.address = "127.0.0.1"

    def command(self, command: Command) -> Command:
        arguments = (sys.executable, *command.arguments[1:])
        return dataclasses.replace(
            command, arguments=arguments, environment={"PYTHONPATH": RUNTIME}
        )

    def run(self, command: Command) -> Result:
        return run_on_host(self.command(command))


class Kept(Here):
    """A machine on which a program can be kept running."""

    @contextmanager
    def converse(self, command: Command) -> Iterator[Ask]:
        with converse_on_host(self.command(command), where=self.name) as ask:
            yield ask


def test_offset_is_the_middle_and_the_bound_half_the_way() -> None:
    # The machine is 1000 ahead; 10 there, 30 back, and 5 in between.
    exchange = Exchange(asked=0, received=1010, answered=1015, returned=45)
    assert exchange.under_way == 40
    assert offset(exchange) == (990, 20)


def test_the_quickest_exchange_counts_and_impossible_ones_do_not() -> None:
    slow, quick = Exchange(0, 50, 50, 100), Exchange(0, 5, 5, 10)
    was_set = Exchange(0, 5, 500, 10)
    assert best([slow, quick, was_set]) == quick
    assert best([was_set]) is None


def test_this_hosts_own_clock_is_its_own() -> None:
    first, second = measure([Kept("edge-1"), Kept("edge-2")])
    assert (first.machine, second.machine) == ("edge-1", "edge-2")
    for each in (first, second):
        assert each.datagrams
        assert each.lowest_ns <= 0 <= each.highest_ns
        assert 0 < each.bound_ns < 50_000_000


class Closed(Kept):
    """Datagrams do not reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.address = "127.9.9.9"

    def command(self, command: Command) -> Command:
        program = Path(RUNTIME, "continuum_runtime", "clock_echo.py").read_text()
        bound = program.replace("listening() as port", 'listening("127.0.0.1") as port')
        assert bound != program
        token = command.arguments[-1]
        return Command((sys.executable, "-c", bound, token), command.input)


@pytest.mark.parametrize("kind", [Here, Closed], ids=["started for each line", "kept"])
def test_without_datagrams_the_connection_of_commands_does(
    kind: type[Here], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "REPLY_LIMIT", 0.01)
    (reading,) = measure([kind()])
    assert not reading.datagrams
    assert reading.lowest_ns <= 0 <= reading.highest_ns


class Gone(Here):
    def run(self, command: Command) -> Result:
        raise MachineUnreachable(f"{self.name} does not run", where=str(command))


def test_a_machine_that_is_gone_hinders_no_other() -> None:
    machines: list[Machine] = [Kept("edge-1"), Gone("edge-2")]
    found, failed = measure_some(machines)
    assert [each.machine for each in found] == ["edge-1"]
    assert failed == {"edge-2": "edge-2 does not run"}


class Babbling(Here):
    def run(self, command: Command) -> Result:
        return Result(command, 0, b"good morning\n", b"", 0.0)


def test_what_is_no_time_is_told() -> None:
    with pytest.raises(StepFailed, match="something else") as caught:
        measure([Babbling()])
    assert caught.value.output == "good morning"


def test_a_conversation_that_breaks_off_is_an_error_with_what_was_said() -> None:
    program = "import sys; input(); sys.exit('enough')"
    command = Command((sys.executable, "-c", program))
    with (
        converse_on_host(command, where="edge-1") as ask,
        pytest.raises(CommandFailed, match="broke off") as caught,
    ):
        ask(b"?\n")
    assert caught.value.output == "enough"


def test_a_conversation_ends_in_time() -> None:
    command = Command((sys.executable, "-c", "import time; time.sleep(60)"), timeout=0.2)
    with converse_on_host(command) as ask, pytest.raises(TimedOut, match=r"within 0\.2 s"):
        ask(b"?\n")


def test_a_conversation_leaves_no_program_behind() -> None:
    command = Command(("sh", "-c", "while read line; do echo $$; done"))
    with converse_on_host(command) as ask:
        process = int(ask(b"?\n"))
        assert Path(f"/proc/{process}").exists()
    assert not Path(f"/proc/{process}").exists()
