"""Machines that stand for physical hosts: containers that carry containers, with what a host needs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from continuum.deployment import Deployment
from continuum.events import Events
from continuum.experiment.model import Experiment, Infrastructure, Network, Tier
from continuum.images import build, sources
from continuum.images.recipe import DebianPackages, Recipe, Units
from continuum.infrastructure.configure import Surroundings, configure
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc
from continuum.infrastructure.providers.lxc.config import Container
from continuum.infrastructure.providers.lxc.containers import end, running
from continuum.machine import Command, Machine

FOLDER = "/var/lib/lxc/continuum"
"""On the disk of the real host: an overlay's upper folder cannot lie on another overlay."""

_NEEDED = DebianPackages(("lxc", "iptables", "procps", "util-linux"))
_QUIET = Units(disabled=("lxc.service", "lxc-net.service", "lxc-monitord.service"))


class StandIns:
    """Hosts `stand-1`, `stand-2`, … on a network of their own."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Debian packages that they have beside those for containers."""

    def __init__(  # noqa: PLR0913  a host differs in that much
        self,
        state: Path,
        count: int,
        *,
        cores: int = 2,
        pinned: bool = False,
        delay: str = "",
        release: str = "",
        internet: bool = False,
    ) -> None:
        """Make them; the machine image is built first when it is not in the cache.

        Args:
            state: state folder of their deployment.
            count: how many.
            cores: of each.
            pinned: whether each has cores of this host of its own.
            delay: one way between any two of them, as `3 ms`.
            release: of Debian, as `trixie`; this host's own when empty.
            internet: whether they reach what this host reaches.
        """
        tier = Tier.model_validate({"machines": count, "cores": cores, "memory": "4 GiB"})
        infrastructure = Infrastructure(cpu_pin=pinned, internet=internet)
        link = {"between": ["stand", "stand"], "delay": delay}
        experiment = Experiment(
            name="stand-ins",
            infrastructure=infrastructure,
            tiers={"stand": tier},
            network=Network.model_validate({"links": [link]}) if delay else None,
        )
        self.deployment = Deployment(experiment.name, state)
        self.provider = Lxc(PluginSettings(), Events())
        recipe = Recipe.collect((_NEEDED, DebianPackages(self.packages), _QUIET))
        host = sources.read()
        if release:
            host = sources.of_release(host, release)
        surroundings = Surroundings(
            deployment=self.deployment.name,
            identity=self.deployment.identity,
            image=build.build(recipe, Events(), host).fingerprint,
            host_cores=os.cpu_count() or 1,
            blocks_in_use=self.provider.blocks_in_use(),
        )
        plan = configure(experiment, surroundings, {})
        nested = tuple(replace(each, nested=True, privileged=True) for each in plan.machines)
        self.plan = replace(plan, machines=nested)
        self.provider.create_network(self.deployment, self.plan)
        self.start()

    def start(self) -> None:
        """Start those that do not run, and wait for their SSH servers."""
        self.provider.create(self.deployment, self.plan, lambda _: None)
        self.provider.apply_links(self.deployment, self.plan)

    def stop(self, number: int) -> None:
        """End one as a power failure would."""
        folder = self.deployment.folder.absolute() / "machines"
        name = Container.of(f"stand-{number}", folder, self.plan.identity).name
        end([each for each in running(folder) if each.name == name])

    def remove(self) -> None:
        """Remove them all."""
        self.provider.destroy(self.deployment)

    @property
    def machines(self) -> list[Machine]:
        """Their handles."""
        return self.provider.machines(self.deployment, self.plan)

    def entry(self, number: int, name: str) -> str:
        """The `[[hosts]]` of one, in an experiment."""
        return (
            f'[[hosts]]\nname = "{name}"\nssh = "stand-{number}"\n'
            f'ssh_config = "{self.deployment.ssh_config}"\nfolder = "{FOLDER}"\n'
        )

    def disk(self, number: int) -> Path:
        """The folder of the real host that is /var/lib/lxc on one of them."""
        folder = self.deployment.folder.absolute() / "machines"
        container = Container.of(f"stand-{number}", folder, self.plan.identity)
        return container.folder / "disk/lxc"

    def traces(self, number: int) -> list[str]:
        """What Continuum could have left on one: interfaces, rules, containers, folders."""
        machine = self.machines[number - 1]

        def lines(*arguments: str) -> list[str]:
            return machine.run(Command(arguments)).text.splitlines()

        interfaces = [line.split(": ")[1] for line in lines("ip", "-oneline", "link")]
        found = [each for each in interfaces if each.startswith("ct")]
        found += [line for line in lines("iptables-save") if "continuum" in line]
        found += [line for line in lines("ps", "-eo", "args") if line.startswith("[lxc monitor]")]
        found += lines("find", f"{FOLDER}/state", "-mindepth", "2")
        found += lines("find", "/sys/fs/cgroup", "-name", "continuum-*")
        return found
