"""Provider `lxc`: machines as system containers of plain LXC, with systemd and sshd inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from continuum import folders
from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere, StepFailed
from continuum.images import build, store
from continuum.images.recipe import Recipe
from continuum.infrastructure.host import (
    addresses,
    bridge,
    cgroups,
    disks,
    firewall,
    keys,
    limits,
    routing,
    ssh_config,
    ssh_wait,
)
from continuum.infrastructure.plan import InfrastructurePlan, Link, MachineSpec
from continuum.infrastructure.providers.contract import (
    Capabilities,
    Check,
    MachineState,
    Provider,
)
from continuum.infrastructure.providers.lxc import config, containers
from continuum.infrastructure.providers.lxc.config import Container, Host
from continuum.infrastructure.providers.lxc.machine import LxcMachine
from continuum.machine import Command, Machine, run_on_host
from continuum.parallel import for_each

BOOT_LIMIT = 60.0
"""Seconds from the start of the last machine until SSH must answer on all; more for many."""

_SYSTEM_CALLS = Path("/usr/share/lxc/config/common.seccomp")
_LXC_LOCKS = Path("/run/lxc/lock")


class Lxc(Provider):
    """System containers on this host. Everything of a deployment carries its identity."""

    name: ClassVar[str] = "lxc"
    capabilities: ClassVar[Capabilities] = Capabilities(
        one_clock=True,
        quota_covers="machine",
        disk_limits=(
            "direct reads and writes; buffered writes too where control groups are version 2"
        ),
        needs_root=True,
    )

    def check(self) -> list[Check]:
        """Try every prerequisite on this host."""
        from continuum.infrastructure.providers.lxc import (  # noqa: PLC0415  only `doctor` needs it
            checks,
        )

        return checks.all_checks()

    def blocks_in_use(self) -> list[str]:
        """Blocks of the host's routes, and those that deployments keep over a reboot."""
        kept = set()
        for path in folders.state_folder().glob("*/machines/block"):
            kept.add(path.read_text().strip())
        return [*addresses.blocks_in_use(), *sorted(kept)]

    def build_image(self, recipe: Recipe) -> str:
        """Build the layers that are missing; returns the image's fingerprint."""
        return build.build(recipe, self.events).fingerprint
