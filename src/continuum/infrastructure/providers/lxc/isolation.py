"""Distance between a machine's root and the host's: a user namespace where the kernel has it."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from continuum.images import store
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
from continuum.infrastructure.providers.lxc import id_range, mapped_root
from continuum.machine import Command, run_on_host

USER_NAMESPACE = "user namespace"
PRIVILEGED = "root of the host"

KERNEL = (5, 19)
"""Since then overlay takes layers whose ids are mapped."""

_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
_TRIAL_LIMIT = 20.0


def of_machines(plan: InfrastructurePlan, obstacle: str | None) -> dict[str, str]:
    """The isolation of each machine, where `obstacle` is what this host has against mapping."""
    return {
        spec.name: PRIVILEGED if spec.privileged or obstacle else USER_NAMESPACE
        for spec in plan.machines
    }


def remarks(plan: InfrastructurePlan, obstacle: str | None) -> list[str]:
    """Sentences for a person on what root in the machines may do to this host."""
    kinds = of_machines(plan, obstacle)
    mapped = sum(kind == USER_NAMESPACE for kind in kinds.values())
    nodes = sum(spec.privileged for spec in plan.machines)
    said = []
    if mapped:
        said.append(
            f"{_count(mapped)} in {'a user namespace' if mapped == 1 else 'user namespaces'} of "
            f"{'its' if mapped == 1 else 'their'} own: root inside is nobody on this host"
        )
    if nodes:
        said.append(
            f"{_count(nodes)} of the cluster: root inside is root on this host, as Kubernetes needs it"
        )
    if len(kinds) - mapped - nodes:
        said.append(
            f"{_count(len(kinds) - mapped - nodes)} without a user namespace: root inside is root on "
            f"this host, since {obstacle}"
        )
    return said


def _count(machines: int) -> str:
    return "1 machine" if machines == 1 else f"{machines} machines"


def obstacle() -> str | None:
    """The reason why this kernel cannot map a machine's ids, as far as anybody may look."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if release and (int(release[1]), int(release[2])) < KERNEL:
        return f"Linux {platform.release()} is older than {'.'.join(map(str, KERNEL))}"
    try:
        if int(_NAMESPACES.read_text()) == 0:
            return "user.max_user_namespaces is 0"
    except FileNotFoundError:
        return "the kernel has no user namespaces"
    except (OSError, ValueError):
        pass
    return None


def obstacle_tried(machines: Path, layers: Sequence[Path]) -> str | None:
    """The same, by mapping an image's layers and the machines' folder; needs root, leaves nothing.

    File systems differ in it, and what a host forbids shows nowhere else.
    """
    known = obstacle()
    if known:
        return known
    folder = Path(tempfile.mkdtemp(prefix=".mapped-", dir=machines))
    try:
        for name in ("upper", "work"):
            (folder / name).mkdir()
        command = mapped(id_range.FIRST, folder, None, layers, ("/bin/true",))
        tried = run_on_host(Command(command, timeout=_TRIAL_LIMIT))
    finally:
        store.remove(folder)
    if tried.exit_code == 0:
        return None
    return f"user ids cannot be mapped here ({tried.last_output.strip() or tried.exit_code})"


def first_id(spec: MachineSpec) -> int:
    """The id on the host of a machine's root in its user namespace."""
    return id_range.first_of(spec.address, id_range.taken())


def mapped(
    first: int,
    folder: Path,
    hook: Path | None,
    layers: Sequence[Path],
    program: Sequence[str],
) -> tuple[str, ...]:
    """The command that runs a program where a machine's files have its ids; see `mapped_root`."""
    return (
        os.path.realpath(sys.executable),
        "-I",
        "-S",
        mapped_root.__file__,
        str(first),
        str(folder),
        str(hook or ""),
        *map(str, layers),
        "--",
        *program,
    )
