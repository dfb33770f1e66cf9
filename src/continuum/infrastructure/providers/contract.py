"""What a provider is: it makes machines, finds its own again, and removes them."""

from __future__ import annotations

import ipaddress
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from continuum import secret
from continuum.images import store
from continuum.infrastructure import tcp
from continuum.infrastructure.configure import remarks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from continuum.deployment import Deployment
    from continuum.events import Events
    from continuum.experiment.model import Experiment
    from continuum.images.recipe import Recipe
    from continuum.infrastructure.host.processor import Consumer
    from continuum.infrastructure.host.share import HostWatch
    from continuum.infrastructure.links.check import LinkMeasurement
    from continuum.infrastructure.links.contract import Window
    from continuum.infrastructure.placement import Room
    from continuum.infrastructure.plan import (
        Existing,
        HostPlan,
        InfrastructurePlan,
        Link,
        NetworkPlan,
    )
    from continuum.machine import Machine
    from continuum.state_file import Damaged


class PluginSettings(BaseModel):
    """Base of a plug-in's own settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _opened(cls, values: object) -> object:
        """Plug-ins say what a value is, a text or a `Secret`; experiments keep all of them secret."""
        return secret.opened(values)

    @classmethod
    def fill_in(cls, settings: dict[str, Any], values: dict[str, Any]) -> None:
        """Say what follows from settings for the rest of the experiment, where it says nothing.

        `settings` and `values`, the experiment's tables, are as a file would hold them: nothing
        of them has been checked yet.
        """

    @classmethod
    def of_stored(cls, stored: Mapping[str, Any]) -> Self:
        """Settings that a deployment keeps, maybe by another version: what this one does not know,
        or would not take, is left out.

        Raises:
            ValidationError: what must be there is not.
        """
        known = {key: value for key, value in stored.items() if key in cls.model_fields}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            wrong = {each["loc"][0] for each in error.errors() if each["loc"]}
        return cls.model_validate({key: each for key, each in known.items() if key not in wrong})

    def problems(self, experiment: Experiment) -> list[tuple[tuple[str | int, ...], str]]:
        """What does not fit the rest of the experiment: (path below these settings, what)."""
        del experiment
        return []


@dataclass(frozen=True)
class Check:
    """One prerequisite, tried. `mend` is the command or advice that mends it when `ok` is False.

    `needed` is False when only some experiments need it.
    """

    name: str
    ok: bool
    detail: str
    mend: str = ""
    needed: bool = True


@dataclass(frozen=True)
class PythonModule:
    """A Python package that only some experiments need: `up` offers to install it.

    Attributes:
        requirement: for pip.
        programs: the Debian package by each program that it takes to build it.
        libraries: the Debian package by each library, as pkg-config names it, that it is built for.
        package: the Debian package that has it for the system's own Python; "" where none does.
    """

    requirement: str
    programs: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    package: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a provider can enforce; a combination that it cannot is refused before `create`.

    Attributes:
        one_clock: all machines share the host's clock.
        own_kernels: each machine has a kernel of its own, which knows when a packet came.
        quota_covers: "machine" when the quota caps the sum over its cores, "core" when each.
        disk_limits: whether disk rates are enforced, and how far, in words.
        limits: those that it enforces, of `cores`, `cpu_pin`, `memory` and `disk`: `up` proves them
            in the machines.
        needs_root: whether its verbs need root.
        ssh: whether its machines are reached by SSH, and so by Ansible.
        made_up: whether its machines exist on paper only, and so every figure is made up.
        keeps_time: whether its machines have time services of their own, which are left alone.
        several_hosts: whether it can carry out a host's share of a plan (`InfrastructurePlan.share`),
            and so make machines on several hosts.
    """

    one_clock: bool
    quota_covers: str
    disk_limits: str
    needs_root: bool
    ssh: bool = True
    made_up: bool = False
    own_kernels: bool = False
    keeps_time: bool = False
    several_hosts: bool = False
    limits: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MachineState:
    """A machine as it is now. `state` is `running` or `stopped`; `spec` as it was made of."""

    name: str
    state: str
    fingerprint: str


@dataclass(frozen=True)
class Surveyed:
    """What there is on other hosts; empty where there are none.

    Attributes:
        hosts: the others, with their addresses.
        rooms: what each host has that carries machines.
        mtu: bytes of the largest packet between machines, where it is less than 1500; else None.
    """

    hosts: tuple[HostPlan, ...] = ()
    rooms: tuple[Room, ...] = ()
    mtu: int | None = None


class Provider(ABC):
    """Makes machines on this host. One instance serves one command.

    Everything may be repeated: `create` on what is there changes nothing, `destroy` of what is
    gone succeeds. A provider knows its own by labels on the things themselves, and never touches
    a thing that it did not label.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[PluginSettings]] = PluginSettings
    capabilities: ClassVar[Capabilities]
    programs: ClassVar[Mapping[str, str]] = {}
    """The Debian package by each program that the host needs; `up` offers to install it."""
    modules: ClassVar[Mapping[str, PythonModule]] = {}
    """What provides each Python module that it needs beside Continuum's own."""

    def __init__(self, settings: PluginSettings, events: Events) -> None:
        self.settings = settings
        self.events = events

    @abstractmethod
    def check(self) -> list[Check]:
        """Try every prerequisite on this host; changes nothing that lasts."""

    @abstractmethod
    def blocks_in_use(self) -> list[str]:
        """IPv4 blocks, as `10.0.0.0/24`, that a new deployment must keep away from."""

    def block_user(self, block: str) -> str:
        """User of one of these blocks, as `route through vpn0`; "" when that is not known."""
        del block
        return ""

    def foreign_blocks(self, deployment: Deployment, own: NetworkPlan | None) -> list[str]:
        """`blocks_in_use` without those of the deployment, whose network was planned as `own`."""
        del deployment
        return [
            text
            for text in self.blocks_in_use()
            if own is None or not ipaddress.IPv4Network(text, strict=False).subnet_of(own.block)
        ]

    def existing(self, deployment: Deployment, experiment: Experiment) -> Existing | None:
        """The experiment's machines, where they exist already; None where they are made.

        Looks, and changes nothing.

        Raises:
            MachineUnreachable: one of them does not answer.
            NotPossibleHere: one of them will not do; says why, of all of them at once.
        """
        del deployment, experiment
        return None

    def remarks(self, experiment: Experiment, plan: InfrastructurePlan) -> list[str]:
        """What a person should know of a plan that can be carried out, but has a limit."""
        del experiment
        return remarks(plan, self.host_cores(), self.capabilities.disk_limits)

    def host_cores(self) -> Mapping[str, int]:
        """Cores of each host that carries machines, by its name; "" is this one."""
        return {} if self.capabilities.made_up else {"": os.cpu_count() or 1}

    def refuse(self, deployment: Deployment, plan: InfrastructurePlan) -> None:
        """Raise when this host cannot carry the plan; changes nothing, and needs no privileges.

        Raises:
            NotPossibleHere: with the reason and what can be done.
        """
        del deployment, plan

    def caveats(self, plan: InfrastructurePlan) -> list[str]:
        """What a person should know of figures from machines made here; it is kept with every run's results."""
        del plan
        return []

    def image_fingerprint(self, recipe: Recipe) -> str:
        """The fingerprint that `build_image` returns here; builds nothing."""
        return recipe.fingerprint

    @abstractmethod
    def build_image(self, recipe: Recipe) -> str:
        """Build the machine image unless it is in the cache; returns its fingerprint."""

    def image_layers(self, image: str) -> list[str]:
        """What of a built image another host needs to make machines of it: keys in the cache."""
        return [path.parent.name for path in store.find(image).layers]

    def image_versions(self, plan: InfrastructurePlan) -> dict[str, str]:
        """Versions of the important parts of the plan's machine image, by name."""
        del plan
        return {}

    def leave_former(self, deployment: Deployment) -> None:  # noqa: B027  most have one place only
        """Remove what is where the deployment was and is not to be any more.

        It is called while the deployment still has the plan that names those places.
        """

    @abstractmethod
    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Make the bridge, its address, and the rules that close it. True when changed."""

    @abstractmethod
    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """Make and boot the machines that are missing or stopped; wait until SSH answers on all.

        Machines that are not in the plan, or whose specification differs, are replaced or
        removed. Returns the names of the machines that were made, started or removed.
        """

    @abstractmethod
    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """Handles of the plan's machines, whether they run or not, in the plan's order."""

    @abstractmethod
    def states(self, deployment: Deployment) -> list[MachineState]:
        """The machines of this deployment that exist, also those that no plan knows."""

    def damage(self, deployment: Deployment) -> list[Damaged]:
        """The files of its own in the deployment's folder that cannot be read."""
        del deployment
        return []

    @abstractmethod
    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Put exactly the plan's links in force. True when anything was changed."""

    @abstractmethod
    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """Read back the links that are in force now, on machines that run."""

    def network_missing(self, deployment: Deployment, plan: InfrastructurePlan) -> list[str]:
        """Sentences on what of the network that carries the machines is gone; looks only."""
        del deployment, plan
        return []

    def isolation(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, str]:
        """Separation of root in each machine from its host, by the machine's name, in few words.

        As `user namespace`; without an entry where that is not known.
        """
        del deployment, plan
        return {}

    def link_windows(
        self, deployment: Deployment, plan: InfrastructurePlan, since_ns: int, until_ns: int
    ) -> list[Window]:
        """The emulator's work on packets between two times; empty where nobody counts."""
        del deployment, plan, since_ns, until_ns
        return []

    def measure_links(
        self, deployment: Deployment, plan: InfrastructurePlan, *, all_pairs: bool
    ) -> list[LinkMeasurement] | None:
        """What links measure where no packets can be sent; None: the link check sends them."""
        del deployment, plan, all_pairs
        return None

    def consumers(self, deployment: Deployment, plan: InfrastructurePlan) -> Mapping[str, Consumer]:
        """The consumer on this host for each machine, by the machine's name: its control groups, or
        its processes. Empty where that is not known: then nothing tells the experiment's own use of
        the host from that of others.
        """
        del deployment, plan
        return {}

    def host_watches(self, deployment: Deployment, plan: InfrastructurePlan) -> list[HostWatch]:
        """The watches on each host that carries machines while something is measured.

        None where no host is ours: machines that are made up, or that are computers of their own.
        """
        if self.capabilities.made_up or not plan.network.tiers:
            return []
        from continuum.infrastructure.host.share import (  # noqa: PLC0415  only `run` needs it
            ThisHost,
        )
        from continuum.infrastructure.links import process  # noqa: PLC0415

        return [
            ThisHost(
                self.consumers(deployment, plan),
                lambda: process.find(deployment.identity),
                plan.host,
            )
        ]

    def answer_delays(self, plan: InfrastructurePlan) -> dict[str, float]:
        """How long machines with kernels of their own take to answer, by machine.

        Half the round trip to an idle machine, in ms, before any link is emulated. A packet may be
        so much later than its link says.
        """
        del plan
        return {}

    def survey(self) -> Surveyed:
        """What the other hosts have, where the provider is over several."""
        return Surveyed()

    def link_remark(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """What a person should know when links measure other than asked for; "" when nothing."""
        del deployment, plan
        return ""

    def traffic_obstacles(self, plan: InfrastructurePlan) -> list[str]:
        """Rules that drop the machines' packets beside ours, and what lets them through, a line each."""
        del plan
        return []

    def may_act(self) -> bool:
        """Whether this process has the privileges to look inside machines and change them."""
        return not self.capabilities.needs_root or os.geteuid() == 0

    def tcp_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> dict[str, str]:
        """The behaviour of TCP on the machines, read back; as `tcp.read`."""
        return tcp.read(self.machines(deployment, plan))

    def emulator_in_use(self, deployment: Deployment, plan: InfrastructurePlan) -> str:
        """Name of what enforces the links; "" when nothing is emulated."""
        del deployment
        return plan.network.emulator if plan.network.links else ""

    @abstractmethod
    def destroy(self, deployment: Deployment) -> None:
        """Remove everything of this deployment from the host, whatever state it is in."""

    @abstractmethod
    def leftovers(self, state_folder: Path) -> list[str]:
        """Names of deployments that have things on this host, found by their labels alone."""
