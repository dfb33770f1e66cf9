"""How far machines' clocks are from this host's, by exchanges over a path that is not shaped.

An exchange is a question that leaves here at `asked` and comes to the machine at `received`, and an
answer that leaves there at `answered` and is back at `returned`. The answer cannot have come before
the question, so the machine's clock is ahead by at most `received - asked` and at least by
`answered - returned`: half the time under way is how far the middle may be off (Cristian, 1989).
Nothing is assumed about the two ways, which may take different times. Of many exchanges the one
that was under way for the shortest time counts.
"""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from continuum.errors import ContinuumError, StepFailed
from continuum.images.recipe import RUNTIME_FOLDER
from continuum.machine import Ask, Command, Machine
from continuum.parallel import for_each
from continuum_runtime import clock_echo

EXCHANGES = 30
"""Datagrams for each machine; the quickest ones say most."""

ASKED_BY_PIPE = 5
"""Exchanges through the connection that commands take, beside them."""

REPLY_LIMIT = 0.25
"""Seconds to wait for a datagram's answer."""

LOST_AT_MOST = 3
"""Datagrams without an answer, one after the other, until none is sent any more."""

RUN_TIMEOUT = 60.0


@dataclass(frozen=True)
class Exchange:
    """Four moments in ns: `asked` and `returned` by this host's clock, the others by the machine's."""

    asked: int
    received: int
    answered: int
    returned: int

    @property
    def under_way(self) -> int:
        """The time in ns that question and answer took; below 0 when a clock was set meanwhile."""
        return (self.returned - self.asked) - (self.answered - self.received)


@dataclass(frozen=True)
class ClockReading:
    """A machine's clock minus this host's, in ns, give or take `bound_ns`.

    Attributes:
        at_ns: when, by this host's clock.
        datagrams: whether datagrams were answered; else only the connection of commands was used.
    """

    machine: str
    at_ns: int
    offset_ns: int
    bound_ns: int
    datagrams: bool

    @property
    def lowest_ns(self) -> int:
        """The offset is at least this."""
        return self.offset_ns - self.bound_ns

    @property
    def highest_ns(self) -> int:
        """The offset is at most this."""
        return self.offset_ns + self.bound_ns


def offset(exchange: Exchange) -> tuple[int, int]:
    """The machine's clock minus this host's, and how far that may be off, in ns."""
    highest = exchange.received - exchange.asked
    lowest = exchange.answered - exchange.returned
    middle = (lowest + highest) // 2
    return middle, highest - middle  # Rounded so that it is never too little.


def best(exchanges: Iterable[Exchange]) -> Exchange | None:
    """The exchange that was under way for the shortest time; None when a clock was always set."""
    possible = [each for each in exchanges if each.under_way >= 0]
    return min(possible, key=lambda each: each.under_way, default=None)


def measure(machines: Sequence[Machine]) -> list[ClockReading]:
    """One reading of each machine, in their order.

    Raises:
        CommandFailed, TimedOut, MachineUnreachable: a machine does not carry out our program.
        StepFailed: a clock was set again and again while it was read.
    """
    token = secrets.token_bytes(16)
    command = Command(
        ("python3", "-S", "-m", "continuum_runtime.clock_echo", token.hex()),
        environment={"PYTHONPATH": RUNTIME_FOLDER},
        timeout=RUN_TIMEOUT + len(machines),
    )
    with ExitStack() as programs:
        asks = [programs.enter_context(machine.converse(command)) for machine in machines]
        # They start at the same time; then one is asked after the other, so that none waits for
        # this host's processors while it answers.
        for_each(lambda ask: ask(b"?\n"), asks)
        return [_reading(machine, ask, token) for machine, ask in zip(machines, asks, strict=True)]


def _reading(machine: Machine, ask: Ask, token: bytes) -> ClockReading:
    piped, port = _through_pipe(ask)
    sent = _by_datagrams(machine.address, port, token)
    chosen = best([*piped, *sent])
    if chosen is None:
        raise StepFailed(
            f"the clock of {machine.name} was set while it was read",
            where=machine.name,
            hint="look for a second program there that sets the clock",
        )
    middle, bound = offset(chosen)
    return ClockReading(machine.name, chosen.returned, middle, bound, bool(sent))


def _through_pipe(ask: Ask) -> tuple[list[Exchange], int]:
    """Exchanges by lines, and the UDP port that the program told."""
    found = []
    port = 0
    for _ in range(ASKED_BY_PIPE):
        asked = time.time_ns()
        said = ask(b"?\n")
        returned = time.time_ns()
        try:
            received, answered, port = map(int, said.split())
        except ValueError as error:
            raise StepFailed(
                "a program that tells the time said something else",
                output=said[:200].decode("utf-8", "replace"),
            ) from error
        found.append(Exchange(asked, received, answered, returned))
    return found, port


def _by_datagrams(address: str, port: int, token: bytes) -> list[Exchange]:
    """Exchanges by UDP; none where it cannot pass."""
    found: list[Exchange] = []
    lost = 0
    with clock_echo.listening() as own:
        for number in range(EXCHANGES):
            asked = time.time_ns()
            try:
                own.sendto(clock_echo.REPLY.pack(token, number, 0, 0), (address, port))
                answer = _answer(own, token, number)
            except OSError:
                return found
            if answer is None:
                lost += 1
                if lost == LOST_AT_MOST:
                    break
                continue
            lost = 0
            found.append(Exchange(asked, *answer))
    return found


def _answer(own: socket.socket, token: bytes, number: int) -> tuple[int, int, int] | None:
    """Received, answered, returned; None when no answer to that question came in time."""
    deadline = time.monotonic() + REPLY_LIMIT
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([own], [], [], left)[0]:
            return None
        data, returned, _ = clock_echo.receive(own)
        if len(data) == clock_echo.REPLY.size and data[:16] == token:
            _, told, received, answered = clock_echo.REPLY.unpack(data)
            if told == number:
                return received, answered, returned
    return None


def measure_some(machines: Sequence[Machine]) -> tuple[list[ClockReading], dict[str, str]]:
    """Readings of the machines that answer, and why the others do not, by name."""
    try:
        return measure(machines), {}
    except ContinuumError:
        found: list[ClockReading] = []
        failed = {}
        for machine in machines:
            try:
                found += measure([machine])
            except ContinuumError as error:
                failed[machine.name] = error.message
        return found, failed
