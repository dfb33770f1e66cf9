"""The share of itself that this host gave to an experiment while something was measured.

A sentinel notes when the host did not run at all; what else is seen is where the processor time went:
to the experiment, to others on this host, or to whoever runs this host.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

from pydantic import TypeAdapter

from continuum import interruption
from continuum.errors import ContinuumError
from continuum.host_facts import host_facts
from continuum.infrastructure.host import processor, sentinel
from continuum.infrastructure.host.processor import Consumer, Throttling, Times
from continuum.infrastructure.host.sentinel import Lateness, Stall
from continuum_runtime.steady_clock import offset_ns

if TYPE_CHECKING:
    from continuum.machine import Ask

SLICE = 0.5
"""Seconds between two looks."""
MACHINES_A_SLICE = 100
"""With more machines there are fewer looks, so that these take no more of the host."""

_FRESH = 0.1

SATURATED = 0.95
"""Share of the host's cores from which on somebody waits."""
FOREIGN = 0.25
"""Share of the host's cores that processes which are not the experiment's must have for a slice to
count as saturated by them."""

SETTLED = 0.25
"""Share of the host's cores that the machines of an experiment may use when they are idle."""
SETTLING_SLICE = 0.25
SETTLING_LIMIT = 10.0
"""Seconds."""


@dataclass(frozen=True)
class HostShare:
    """One host, while something was measured. Percentages are of all its cores' time.

    Attributes:
        host: its name, "" for the one that the run was started on.
        began_ns, ended_ns: Unix time by this host's clock.
        offset_ns: the host's clock minus the clock of the host that the run was started on.
        lateness: what the sentinel saw; None without one.
        busy_percent: with programs; `foreign_percent` with those that are neither the experiment's nor
            ours, None where these cannot be told apart.
        steal_percent: that whoever runs the host kept from it.
        saturated_percent: share of the time in which hardly any core was free;
            `crowded_percent`: in which that was the work of foreign programs.
        pressure_percent: share of the time in which some program waited for a core, be it for its
            quota; None where the kernel does not tell.
        load_before: the load average of a minute before it began; `ready_before`: threads that ran
            then, or were ready to.
        clock_step_ms: by how much the clock was set meanwhile, against one that is never set.
        throttling: of each machine on this host.
    """

    host: str
    began_ns: int
    ended_ns: int
    cores: int
    lateness: Lateness | None
    busy_percent: float
    foreign_percent: float | None
    steal_percent: float
    saturated_percent: float
    crowded_percent: float | None
    pressure_percent: float | None
    load_before: float
    ready_before: int
    governor: str | None
    clock_step_ms: float
    throttling: Mapping[str, Throttling] = field(default_factory=dict)
    offset_ns: int = 0

    @property
    def stalls(self) -> Sequence[Stall]:
        """The times in which its cores did not run, by its own clock."""
        return self.lateness.stalls if self.lateness else ()


_SHARE = TypeAdapter(HostShare)


class HostWatch(Protocol):
    """Watches a host between `begin` and `end`. A host that cannot be watched raises ContinuumError."""

    def begin(self) -> None:
        """Begin to watch."""

    def stalls(self) -> list[Stall]:
        """The stalls since then, by the clock of the host that the run was started on."""

    def end(self) -> HostShare:
        """End it, and tell what was seen."""


class StallsSoFar(Sequence[tuple[int, int]]):
    """The stalls that watches have seen by the time that they are asked for: begin and end in ns.

    For whoever measures and judges by and by. The hosts are not asked again within a tenth of a
    second.
    """

    def __init__(self, watches: Sequence[HostWatch]) -> None:
        self._watches = watches
        self._asked = -math.inf
        self._known: list[tuple[int, int]] = []

    def _so_far(self) -> list[tuple[int, int]]:
        if time.monotonic() - self._asked > _FRESH:
            with suppress(ContinuumError):
                self._known = [
                    (begin, end) for watch in self._watches for begin, end, _ in watch.stalls()
                ]
            self._asked = time.monotonic()
        return self._known

    @overload
    def __getitem__(self, place: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[tuple[int, int]]: ...
    def __getitem__(self, place: int | slice) -> tuple[int, int] | Sequence[tuple[int, int]]:
        return self._so_far()[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._so_far())

    def __len__(self) -> int:
        return len(self._so_far())


@contextmanager
def watched(watches: Sequence[HostWatch], note: Callable[[str], None]) -> Iterator[list[HostShare]]:
    """Watch hosts in the block; the list is filled at its end.

    A host that cannot be watched is noted, and stops nothing.
    """
    shares: list[HostShare] = []
    begun = []
    for watch in watches:
        try:
            watch.begin()
            begun.append(watch)
        except ContinuumError as error:
            note(f"a host's own share is not known: {error.message}")
    try:
        yield shares
    finally:
        for watch in begun:
            try:
                shares.append(watch.end())
            except ContinuumError as error:
                note(f"a host's own share is not known: {error.message}")


@dataclass(frozen=True)
class _Look:
    """The state at one moment; seconds that were used since some moment before."""

    times: Times
    used: float

    def since(self, before: _Look) -> _Look:
        return _Look(self.times - before.times, max(0.0, self.used - before.used))

    @property
    def foreign(self) -> float:
        """Seconds of programs that are not the experiment's."""
        return max(0.0, self.times.busy - self.used)

    @property
    def saturated(self) -> bool:
        return self.times.idle < (1 - SATURATED) * self.times.all

    @property
    def crowded(self) -> bool:
        return self.saturated and self.foreign > FOREIGN * self.times.all


class ThisHost:
    """Watches this host. `machines` are those of the experiment that it carries, by name; `helpers`
    other processes of it, as the links' emulator.
    """

    def __init__(
        self,
        machines: Mapping[str, Consumer],
        helpers: Callable[[], Sequence[int]] = tuple,
        name: str = "",
    ) -> None:
        self._machines = machines
        self._find_helpers = helpers
        self._name = name
        self._stack = ExitStack()

    def begin(self) -> None:
        """Start a sentinel, and look again and again."""
        self._looks: list[_Look] = []
        self._ask: Ask | None = None
        self._lateness = Lateness()
        self._asking = threading.Lock()
        self._ended = threading.Event()
        self._helpers = Consumer(processes=tuple(self._find_helpers()))
        self._load = processor.load(Path("/proc/loadavg").read_text())
        with suppress(ContinuumError):
            self._ask = self._stack.enter_context(sentinel.running())
        self._began_ns, self._offset_ns = time.time_ns(), offset_ns()
        self._began = time.monotonic()
        self._throttling = self._throttled()
        self._pressure = _pressure()
        self._hear()
        self._lateness = Lateness()
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stalls(self) -> list[Stall]:
        """The stalls so far."""
        self._hear()
        return list(self._lateness.stalls)

    def end(self) -> HostShare:
        """Stop the sentinel."""
        self._ended.set()
        self._thread.join()
        try:
            self._look()
            self._hear()
        finally:
            self._stack.close()
        ended_ns = time.time_ns()
        whole = self._looks[-1].since(self._looks[0])
        slices = [after.since(before) for before, after in pairwise(self._looks)]
        known = bool(self._machines)
        pressure = _pressure()
        seconds = time.monotonic() - self._began
        return HostShare(
            host=self._name,
            began_ns=self._began_ns,
            ended_ns=ended_ns,
            cores=os.cpu_count() or 1,
            lateness=self._lateness if self._lateness.wakes else None,
            busy_percent=_percent(whole.times.busy + whole.times.interrupts, whole),
            foreign_percent=_percent(whole.foreign, whole) if known else None,
            steal_percent=_percent(whole.times.stolen, whole),
            saturated_percent=_share(slices, lambda each: each.saturated),
            crowded_percent=_share(slices, lambda each: each.crowded) if known else None,
            pressure_percent=(
                None
                if pressure is None or self._pressure is None
                else round(100 * (pressure - self._pressure) / seconds, 2)
            ),
            load_before=self._load[0],
            ready_before=self._load[1],
            governor=_governor(),
            clock_step_ms=round((offset_ns() - self._offset_ns) / 1e6, 3),
            throttling={
                name: after - self._throttling[name] for name, after in self._throttled().items()
            },
        )

    def _watch(self) -> None:
        pause = SLICE * (1 + len(self._machines) // MACHINES_A_SLICE)
        with suppress(ContinuumError, OSError, ValueError):
            while not self._ended.wait(pause):
                self._look()
                self._hear()

    def _hear(self) -> None:
        """Take what the sentinel has noted; one that was stopped with us has said what it will."""
        with self._asking:
            if self._ask is None:
                return
            try:
                self._lateness.add(self._ask(b"\n"))
            except ContinuumError:
                self._ask = None

    def _look(self) -> None:
        own = os.times()
        used = own.user + own.system + own.children_user + own.children_system
        used += processor.used(self._machines.values()) + self._helpers.used()
        self._looks.append(_Look(processor.times(Path("/proc/stat").read_text()), used))

    def _throttled(self) -> dict[str, Throttling]:
        return {name: each.throttling() for name, each in self._machines.items()}


def to_json(share: HostShare) -> Any:  # noqa: ANN401  JSON
    """As `from_json` takes it."""
    return _SHARE.dump_python(share, mode="json")


def from_json(told: Any, offset_ns: int) -> HostShare:  # noqa: ANN401  JSON
    """The account of itself by another host, whose clock is so much ahead of ours."""
    return replace(_SHARE.validate_python(told), offset_ns=offset_ns)


def _percent(seconds: float, whole: _Look) -> float:
    return round(100 * seconds / whole.times.all, 2) if whole.times.all else 0.0


def _share(slices: Sequence[_Look], which: Callable[[_Look], bool]) -> float:
    """Share of the time, in percent, that slices of a kind have."""
    whole = sum(each.times.all for each in slices)
    return round(100 * sum(each.times.all for each in slices if which(each)) / (whole or 1), 2)


def _pressure() -> float | None:
    try:
        return processor.waiting_seconds(Path("/proc/pressure/cpu").read_text())
    except OSError:
        return None


def _governor() -> str | None:
    governor = host_facts()["governor"]
    return governor if isinstance(governor, str) else None


def await_settled(
    machines: Mapping[str, Consumer], progress: Callable[[str], None]
) -> float | None:
    """Wait until the machines do what they do when nothing is asked of them, at most ten seconds.

    Programs that are not the experiment's are not waited for: nothing says that they will end.

    Returns:
        None when they have settled; else the share of this host that they still use, 0 … 1.
    """
    if not machines:
        return None
    cores = os.cpu_count() or 1
    until = time.monotonic() + SETTLING_LIMIT
    before, began = processor.used(machines.values()), time.monotonic()
    while True:
        interruption.pause(SETTLING_SLICE)
        now, moment = processor.used(machines.values()), time.monotonic()
        share = (now - before) / (moment - began) / cores
        if share < SETTLED:
            return None
        if moment > until:
            return share
        progress(f"machines still settle: they use {100 * share:.0f} % of this host")
        before, began = now, moment
