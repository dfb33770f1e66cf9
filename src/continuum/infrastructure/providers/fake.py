"""Provider `fake`: machines that exist on paper only.

For trying the command line, and for tests: it needs neither root nor any program, and makes no
process and no interface. Its world is a folder of files in the deployment's own folder, so that
separate commands see the same machines:

    machines/network.json          the bridge
    machines/links.json            the links in force
    machines/NAME/machine.json     one machine: its specification and state
    machines/NAME/units/…          its processes
    machines/NAME/files/…          what was put on it

Every command on a machine succeeds without output, beside the few that `FakeMachine` knows.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

from continuum import folders
from continuum.images.recipe import Recipe, fingerprint
from continuum.infrastructure.plan import InfrastructurePlan, Link, LinkSettings, NetworkPlan
from continuum.infrastructure.providers.contract import (
    Capabilities,
    Check,
    MachineState,
    PluginSettings,
    Provider,
)
from continuum.infrastructure.providers.fake_machine import (
    LINKS,
    LINKS_FILE,
    MACHINE_FILE,
    WORLD,
    FakeMachine,
    FakeSettings,
    World,
    operate,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from continuum.deployment import Deployment
    from continuum.events import Events
    from continuum.infrastructure.links.check import LinkMeasurement
    from continuum.machine import Machine
    from continuum.state_file import Damaged


TOLERANCE = 0.05
"""Share by which a measured link may differ from what was asked."""


class Fake(Provider):
    """Machines that exist on paper only."""

    name: ClassVar[str] = "fake"
    settings_type: ClassVar[type[PluginSettings]] = FakeSettings
    capabilities: ClassVar[Capabilities] = Capabilities(
        one_clock=True,
        quota_covers="machine",
        disk_limits="none: no data is written",
        needs_root=False,
        ssh=False,
        made_up=True,
        limits=frozenset({"cores", "memory", "disk"}),
    )

    def __init__(self, settings: PluginSettings, events: Events) -> None:
        super().__init__(settings, events)
        assert isinstance(settings, FakeSettings)
        self._settings = settings

    def check(self) -> list[Check]:
        """Nothing can be missing."""
        return [Check("fake machines", ok=True, detail="they need nothing")]

    def blocks_in_use(self) -> list[str]:
        """None: no interface is made."""
        return []

    def build_image(self, recipe: Recipe) -> str:
        """Build nothing; the fingerprint is the recipe's."""
        operate(self._settings, "image")
        inputs = [(tree.name, tree.inputs) for tree in recipe.trees]
        units = (recipe.units.enabled, recipe.units.disabled)
        return fingerprint(recipe.packages, recipe.python, units, inputs)

    def create_network(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Write the bridge down."""
        world = self._world(deployment)
        world.operate("network")
        return world.write("network.json", _network(plan.network))

    def create(
        self, deployment: Deployment, plan: InfrastructurePlan, progress: Callable[[str], None]
    ) -> list[str]:
        """Write the machines down."""
        world = self._world(deployment)
        there = {state.name: state for state in world.machines()}
        wanted = {spec.name for spec in plan.machines}
        changed = [name for name in there if name not in wanted]
        for name in changed:
            progress(f"removing {name}")
            world.remove(name)
        for number, spec in enumerate(plan.machines, start=1):
            made_of = fingerprint(asdict(spec), plan.image)
            before = there.get(spec.name)
            if before == MachineState(spec.name, "running", made_of):
                continue
            progress(f"{spec.name}, {number} of {len(plan.machines)}")
            world.operate("create", spec.name)
            if before is None or before.fingerprint != made_of:
                world.remove(spec.name)
            world.write(
                f"{spec.name}/{MACHINE_FILE}",
                {"state": "running", "fingerprint": made_of, "specification": asdict(spec)},
            )
            changed.append(spec.name)
        return changed

    def machines(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Machine]:
        """Handles of the plan's machines."""
        world = self._world(deployment)
        return [FakeMachine(world, spec, plan) for spec in plan.machines]

    def states(self, deployment: Deployment) -> list[MachineState]:
        """The machines that are written down."""
        return self._world(deployment).machines()

    def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
        """Write the links down."""
        world = self._world(deployment)
        world.operate("links")
        return world.write(LINKS_FILE, LINKS.dump_python(plan.network.links, mode="json"))

    def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
        """The links that were written down, but for those of machines that do not run."""
        from continuum.infrastructure.links.rules import (  # noqa: PLC0415  as real ones have it
            ends,
        )

        world = self._world(deployment)
        running = {each.name for each in world.machines() if each.state == "running"}
        known = ends(plan.network.links, plan.machines)
        return [link for link in world.links() if link not in known or known[link].all_run(running)]

    def tcp_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> dict[str, str]:
        """The settings that were asked for."""
        del deployment
        return plan.network.tcp

    def measure_links(
        self, deployment: Deployment, plan: InfrastructurePlan, *, all_pairs: bool
    ) -> list[LinkMeasurement]:
        """What was asked for, off by what `links_off_by` says."""
        from continuum.infrastructure.links.check import (  # noqa: PLC0415  only `run` needs it
            LinkMeasurement,
            choose_pairs,
        )

        world = self._world(deployment)
        world.operate("measure")
        if self._settings.lost_links:
            left = world.links()[self._settings.lost_links :]
            world.write(LINKS_FILE, LINKS.dump_python(left, mode="json"))
        factor = 1 + self._settings.links_off_by / 100
        holds = abs(factor - 1) <= TOLERANCE
        return [
            LinkMeasurement(
                from_tier=pair.source.tier,
                to_tier=pair.destination.tier,
                from_machine=pair.source.name,
                to_machine=pair.destination.name,
                quantity=quantity,
                asked=asked,
                measured=asked * factor,
                tolerance=TOLERANCE * asked,
                ok=holds,
                verdict="holds" if holds else "does not hold",
            )
            for pair in choose_pairs(plan, all_pairs=all_pairs)
            for quantity, asked in _asked(pair.link.settings).items()
        ]

    def destroy(self, deployment: Deployment) -> None:
        """Remove the world."""
        world = self._world(deployment)
        if os.path.lexists(world.folder):
            world.operate("destroy")
            folders.remove_tree(world.folder)

    def damage(self, deployment: Deployment) -> list[Damaged]:
        """The files of the world that cannot be read."""
        return self._world(deployment).damage()

    def leftovers(self, state_folder: Path) -> list[str]:
        """Deployments whose world is there."""
        return sorted(
            path.parent.parent.name for path in state_folder.glob(f"*/{WORLD}/network.json")
        )

    def _world(self, deployment: Deployment) -> World:
        return World(self._settings, deployment)


def _asked(settings: LinkSettings) -> dict[str, float]:
    """The quantities that a link check would measure."""
    asked = {"delay_ms": settings.delay_ms, "jitter_ms": settings.jitter_ms}
    if settings.loss_percent:
        asked["loss_percent"] = settings.loss_percent
    if settings.rate_mbit is not None:
        asked["rate_mbit"] = settings.rate_mbit
    return asked


def _network(network: NetworkPlan) -> dict[str, str]:
    return {
        "bridge": network.bridge,
        "block": str(network.block),
        "host_address": network.host_address,
    }
