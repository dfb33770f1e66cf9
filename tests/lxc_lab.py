"""One deployment of provider `lxc`, driven through the provider alone."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

from continuum.deployment import Deployment
from continuum.experiment.model import Experiment, Infrastructure, Tier
from continuum.infrastructure.configure import Surroundings, configure
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.infrastructure.providers.lxc import Lxc, containers
from continuum.machine import Machine

SMALL = Tier.model_validate({"memory": "256 MiB"})


@dataclass
class Lab:
    """One deployment, driven through the provider alone."""

    deployment: Deployment
    provider: Lxc
    image: str

    def plan(
        self, tiers: dict[str, Tier] | None = None, *, internet: bool = False
    ) -> InfrastructurePlan:
        """A plan for an experiment of those tiers, in a free block or in its own."""
        block = self.deployment.folder / "machines" / "block"
        return configure(
            Experiment(
                name=self.deployment.name,
                tiers=tiers or {"edge": SMALL.model_copy(update={"machines": 2})},
                infrastructure=Infrastructure(internet=internet),
            ),
            Surroundings(
                deployment=self.deployment.name,
                identity=self.deployment.identity,
                image=self.image,
                host_cores=os.cpu_count() or 1,
                blocks_in_use=() if block.exists() else self.provider.blocks_in_use(),
                kept_block=block.read_text().partition("/")[0] if block.exists() else None,
            ),
            {},
        )

    def up(self, plan: InfrastructurePlan) -> list[str]:
        """Network and machines; names of the machines that changed."""
        self.provider.create_network(self.deployment, plan)
        return sorted(self.provider.create(self.deployment, plan, lambda _: None))

    def machines(self, plan: InfrastructurePlan) -> list[Machine]:
        return self.provider.machines(self.deployment, plan)

    def states(self) -> dict[str, str]:
        return {each.name: each.state for each in self.provider.states(self.deployment)}

    def init(self, machine: str) -> int:
        """Number of a machine's first process on this host."""
        folder = self.deployment.folder / "machines"
        name = f"ctm-{self.deployment.identity}-{machine}"
        found = next(each for each in containers.running(folder) if each.name == name)
        assert found.init is not None
        return found.init

    def ssh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ssh", "-F", str(self.deployment.ssh_config), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
