"""What a link emulator is: it enforces links on machines' interfaces, and reads them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from continuum.machine import Command, Machine, Result, run_on_host

if TYPE_CHECKING:
    from continuum.deployment import Deployment
    from continuum.infrastructure.plan import InfrastructurePlan, Link, MachineSpec


@dataclass(frozen=True)
class Interface:
    """A running machine's interface on the emulated network.

    Attributes:
        namespace: path of the machine's network namespace on this host, as `/proc/4711/ns/net`;
            empty for a machine that has a kernel of its own, or is elsewhere.
        device: the interface's name in the machine.
        inside: the machine itself, where there is no namespace: commands are run in it.
    """

    machine: MachineSpec
    namespace: str = ""
    device: str = "eth0"
    inside: Machine | None = None


@dataclass(frozen=True)
class Window:
    """100 ms of a link's packets that arrive at one machine, as the emulator counted them.

    Attributes:
        link: the link's place among the plan's.
        source, destination: its ends, tiers or machines.
        machine: where its packets arrive, and wait.
        start_ns: when the window began, wall clock.
        packets: that arrived, with those that are lost: frames where the link loses or has
            jitter, else packets of up to 64 kB.
        bytes: of them, Ethernet headers included.
        lost: as the link asks for.
        overflow: that neither the emulator nor the kernel could hold.
        backlog: the most that waited at one time.
        delay_ms: mean of what the packets that arrived were to wait.
        late_p50_ms, late_p99_ms, late_max_ms: how long after their time packets were let go,
            of those that were let go in this window; the percentiles to 12 %, upwards.
    """

    link: int
    source: str
    destination: str
    machine: str
    start_ns: int
    packets: int
    bytes: int
    lost: int
    overflow: int
    backlog: int
    delay_ms: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float


class LinkEmulator(ABC):
    """Enforces all links of one deployment on this host."""

    name: ClassVar[str]
    delays_at_receiver: ClassVar[bool] = False
    """Whether packets wait where they arrive; else where they are sent."""

    @abstractmethod
    def probe(self, run: Callable[[Command], Result] = run_on_host) -> str | None:
        """Why a kernel cannot carry it, found by trying; None when it can.

        `run` carries out commands where that kernel is: on this host, or in a machine.
        """

    def refuse(self, plan: InfrastructurePlan) -> None:
        """Raise when it cannot carry a link of the plan, whatever the kernel can; a pure function.

        Raises:
            NotPossibleHere: names the link, and says what can be done.
        """
        del plan

    @abstractmethod
    def configure(self, plan: InfrastructurePlan) -> Mapping[str, str]:
        """Every file that `apply` uses, by name; a pure function of the plan."""

    @abstractmethod
    def apply(
        self, deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
    ) -> bool:
        """Put exactly the plan's links in force; True when anything was changed."""

    @abstractmethod
    def in_force(
        self, deployment: Deployment, plan: InfrastructurePlan, interfaces: Sequence[Interface]
    ) -> list[Link]:
        """The links that are in force now, read from the kernel and the emulator's process.

        A link counts when every machine that it concerns runs and carries it: each of the plan's
        at either end. Its settings are those that were found, which may be other than the plan's.
        """

    def windows(
        self,
        deployment: Deployment,
        plan: InfrastructurePlan,
        interfaces: Sequence[Interface],
        since_ns: int,
        until_ns: int,
    ) -> list[Window]:
        """Its work on packets between two times of the wall clock; empty when it counts nothing.

        Raises:
            StepFailed: a machine does not give its own.
        """
        del deployment, plan, interfaces, since_ns, until_ns
        return []

    @abstractmethod
    def remove(self, deployment: Deployment) -> None:
        """Stop what runs outside the machines; what lies in their interfaces goes with them."""
