"""Contract test of providers, and of the machines that they make.

Inherit it in a test module, and pytest runs the rest:

    class TestMine(ProviderContract):
        kind = MyProvider

A provider of real machines needs what its users need; mark the class accordingly.
"""

from __future__ import annotations

import ipaddress
import time
from abc import ABC
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from continuum import folders
from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotFound, TimedOut
from continuum.events import Events
from continuum.experiment.model import Experiment, Infrastructure, Link, Network, Tier
from continuum.experiment.units import trusted_numbers
from continuum.images.recipe import Recipe
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.configure import Surroundings, configure
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.infrastructure.providers.contract import PluginSettings, Provider
from continuum.machine import Command, Machine

NAME = "contract"
STOP_SECONDS = 60.0


def contract_experiment(provider: str, name: str = NAME, *, edge: int = 1) -> Experiment:
    """One edge machine unless told, one endpoint, and a link between them."""
    with trusted_numbers():
        link = Link(between=("edge", "endpoint"), delay=5.0, rate=50.0)
        tier = Tier(memory=256 * 2**20)
        return Experiment(
            name=name,
            infrastructure=Infrastructure(provider=provider),
            tiers={"edge": tier.model_copy(update={"machines": edge}), "endpoint": tier},
            network=Network(links=(link,)),
        )


class ProviderContract(ABC):
    """What every provider must hold. Deployments lie in the test's own state folder."""

    kind: ClassVar[type[Provider]]

    def settings(self) -> PluginSettings:
        """The provider's settings."""
        return self.kind.settings_type()

    def recipe(self) -> Recipe:
        """What the machine image holds."""
        return Recipe.collect([runtime_tree()])

    @pytest.fixture
    def provider(self) -> Iterator[Provider]:
        """The provider; whatever a test leaves of the contract's deployments is removed."""
        provider = self.kind(self.settings(), Events())
        yield provider
        for name in (NAME, f"{NAME}-2"):
            provider.destroy(Deployment.named(name))

    def plan(
        self, provider: Provider, name: str = NAME, *, edge: int = 1, image: str = ""
    ) -> InfrastructurePlan:
        """The plan of phase 1 for a small experiment."""
        deployment = Deployment.named(name)
        surroundings = Surroundings(
            deployment=name,
            identity=deployment.identity,
            image=image or provider.build_image(self.recipe()),
            host_cores=2,
            blocks_in_use=provider.blocks_in_use(),
        )
        settings = provider.settings.model_dump(mode="json")
        return configure(
            contract_experiment(provider.name, name, edge=edge), surroundings, settings
        )

    def create(self, provider: Provider, plan: InfrastructurePlan) -> list[str]:
        """Make network and machines; returns the names of those that were changed."""
        deployment = Deployment.named(plan.deployment)
        provider.build_image(self.recipe())
        provider.create_network(deployment, plan)
        return provider.create(deployment, plan, lambda _: None)

    @pytest.fixture
    def up(self, provider: Provider) -> InfrastructurePlan:
        """A plan that has been carried out."""
        plan = self.plan(provider)
        self.create(provider, plan)
        return plan

    @pytest.fixture
    def machine(self, provider: Provider, up: InfrastructurePlan) -> Machine:
        """A machine that runs."""
        return provider.machines(Deployment.named(NAME), up)[0]

    def test_every_check_that_fails_says_what_mends_it(self, provider: Provider) -> None:
        """Checks have names of their own, and the same answer twice."""
        checks = provider.check()
        assert len({check.name for check in checks}) == len(checks)
        assert all(check.ok or check.mend for check in checks)
        assert [check.name for check in provider.check()] == [check.name for check in checks]

    def test_blocks_in_use_are_blocks(self, provider: Provider) -> None:
        """Each can be read as an IPv4 network."""
        for block in provider.blocks_in_use():
            assert ipaddress.IPv4Network(block, strict=False)

    def test_capabilities_are_of_those_that_reports_know(self, provider: Provider) -> None:
        """`quota_covers` is one of two words."""
        assert provider.capabilities.quota_covers in {"machine", "core"}

    def test_the_same_recipe_is_the_same_image(self, provider: Provider) -> None:
        """An image that is there is not built again under another name."""
        assert provider.build_image(self.recipe()) == provider.build_image(self.recipe())

    def test_machines_are_made_once(self, provider: Provider) -> None:
        """A second `create` of the same plan changes nothing."""
        deployment, plan = Deployment.named(NAME), self.plan(provider)
        assert provider.states(deployment) == []
        assert provider.create_network(deployment, plan)
        assert set(provider.create(deployment, plan, lambda _: None)) == {"edge-1", "endpoint-1"}
        assert not provider.create_network(deployment, plan)
        assert provider.create(deployment, plan, lambda _: None) == []
        states = {state.name: state.state for state in provider.states(deployment)}
        assert states == {"edge-1": "running", "endpoint-1": "running"}

    def test_handles_are_those_of_the_plan(
        self, provider: Provider, up: InfrastructurePlan
    ) -> None:
        """Names, tiers and addresses, in the plan's order."""
        handles = provider.machines(Deployment.named(NAME), up)
        found = [(handle.name, handle.tier, handle.address) for handle in handles]
        assert found == [(spec.name, spec.tier, spec.address) for spec in up.machines]

    def test_a_command_runs_and_its_failure_is_a_result(self, machine: Machine) -> None:
        """The machine is called by its own name; a status other than 0 raises nothing."""
        result = machine.run(Command(("hostname",)))
        assert (result.exit_code, result.text) == (0, machine.name)
        assert machine.run(Command(("false",))).exit_code == 1
        assert list(machine.stream(Command(("hostname",)))) == [machine.name]

    def test_a_command_that_takes_too_long_is_killed(self, machine: Machine) -> None:
        """With `TimedOut`, which names the machine."""
        with pytest.raises(TimedOut) as raised:
            machine.run(Command(("sleep", "60"), timeout=0.2))
        assert machine.name in raised.value.where

    def test_files_come_back_as_they_went(self, machine: Machine) -> None:
        """Any bytes, into folders that are not there yet, over what was there before."""
        path = "/var/lib/contract/one/two/file"
        for content in (bytes(range(256)) * 1000, b"", b"x"):
            machine.put(content, path)
            assert machine.get(path) == content
        with pytest.raises(NotFound):
            machine.get("/var/lib/contract/absent")

    def test_links_are_put_in_force_and_read_back(
        self, provider: Provider, up: InfrastructurePlan
    ) -> None:
        """A second time nothing changes; other links take the place of the first ones."""
        deployment = Deployment.named(NAME)
        assert provider.apply_links(deployment, up)
        assert not provider.apply_links(deployment, up)
        assert set(provider.links_in_force(deployment, up)) == set(up.network.links)
        changed = tuple(
            replace(link, settings=replace(link.settings, delay_ms=7.0))
            for link in up.network.links
        )
        other = replace(up, network=replace(up.network, links=changed))
        assert provider.apply_links(deployment, other)
        assert set(provider.links_in_force(deployment, other)) == set(changed)

    def test_more_and_fewer_machines(self, provider: Provider, up: InfrastructurePlan) -> None:
        """Only the difference is made; the others keep what they hold."""
        deployment = Deployment.named(NAME)
        provider.machines(deployment, up)[0].put(b"kept", "/var/lib/contract/mark")
        more = self.plan_like(up, self.plan(provider, edge=2, image=up.image))
        assert provider.create(deployment, more, lambda _: None) == ["edge-2"]
        assert provider.create(deployment, up, lambda _: None) == ["edge-2"]
        names = [state.name for state in provider.states(deployment)]
        assert sorted(names) == ["edge-1", "endpoint-1"]
        kept = provider.machines(deployment, up)[0].get("/var/lib/contract/mark")
        assert kept == b"kept"

    def plan_like(
        self, before: InfrastructurePlan, after: InfrastructurePlan
    ) -> InfrastructurePlan:
        """`after` in the addresses of `before`, as a deployment keeps its own."""
        addresses = {spec.name: spec for spec in before.machines}
        block = before.network.tiers
        machines = tuple(
            addresses.get(spec.name)
            or replace(
                spec, address=str(block[spec.tier][2 + int(spec.name.rpartition("-")[2]) - 1])
            )
            for spec in after.machines
        )
        return replace(after, machines=machines, network=before.network)

    def test_a_machine_of_another_size_is_replaced(
        self, provider: Provider, up: InfrastructurePlan
    ) -> None:
        """Nothing of the old one is left in it."""
        deployment = Deployment.named(NAME)
        provider.machines(deployment, up)[0].put(b"old", "/var/lib/contract/mark")
        first, *rest = up.machines
        bigger = replace(up, machines=(replace(first, memory=first.memory * 2), *rest))
        assert provider.create(deployment, bigger, lambda _: None) == ["edge-1"]
        with pytest.raises(NotFound):
            provider.machines(deployment, bigger)[0].get("/var/lib/contract/mark")

    def test_a_stopped_machine_is_unreachable_until_it_is_started(
        self, provider: Provider, up: InfrastructurePlan, machine: Machine
    ) -> None:
        """`create` starts it again."""
        deployment = Deployment.named(NAME)
        machine.run(Command(("poweroff",)))
        end = time.monotonic() + STOP_SECONDS
        while self._state(provider, machine) == "running":
            assert time.monotonic() < end, "the machine did not stop"
            time.sleep(0.1)
        assert self._state(provider, machine) == "stopped"
        with pytest.raises(MachineUnreachable):
            machine.run(Command(("hostname",)))
        assert provider.create(deployment, up, lambda _: None) == [machine.name]
        assert machine.run(Command(("hostname",))).exit_code == 0

    def _state(self, provider: Provider, machine: Machine) -> str:
        states = provider.states(Deployment.named(NAME))
        return next(state.state for state in states if state.name == machine.name)

    def test_destroy_leaves_nothing_and_can_be_repeated(
        self, provider: Provider, up: InfrastructurePlan
    ) -> None:
        """Also what was never made can be destroyed."""
        deployment = Deployment.named(NAME)
        provider.apply_links(deployment, up)
        assert provider.leftovers(folders.state_folder()) == [NAME]
        provider.destroy(deployment)
        provider.destroy(deployment)
        provider.destroy(Deployment.named(f"{NAME}-2"))
        assert provider.states(deployment) == []
        assert provider.leftovers(folders.state_folder()) == []

    def test_deployments_do_not_touch_each_other(
        self, provider: Provider, up: InfrastructurePlan
    ) -> None:
        """Their blocks differ; destroying one leaves the other."""
        other = self.plan(provider, f"{NAME}-2", image=up.image)
        if provider.blocks_in_use():
            assert not other.network.block.overlaps(up.network.block)
        self.create(provider, other)
        provider.destroy(Deployment.named(f"{NAME}-2"))
        states = {state.state for state in provider.states(Deployment.named(NAME))}
        assert states == {"running"}
