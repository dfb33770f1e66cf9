"""What services have in common whose program is the unit of a Debian package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from continuum.errors import TimedOut
from continuum.images.recipe import DebianPackages, InstallStep, Tree, Units
from continuum.machine import Command

if TYPE_CHECKING:
    from continuum.machine import Machine

_PROBE_SECONDS = 10


@dataclass(frozen=True)
class _DropIn:
    """Writes the file; equal ones are equal, as the trees that they make."""

    service: str
    unit: str
    text: str

    def __call__(self, root: Path, progress: Callable[[str], None]) -> None:
        progress(f"{self.service}: unit")
        path = root / f"etc/systemd/system/{self.unit}.d/continuum.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text)


def install(
    service: str, package: str, unit: str, text: str, traces: tuple[str, ...] = ()
) -> tuple[InstallStep, ...]:
    """The package, its unit changed by `text` in the machine image, and switched on.

    For `traces` see `Tree`.
    """
    changed = Tree(f"{service}-unit", text, _DropIn(service, unit, text), traces=traces)
    return DebianPackages((package,)), changed, Units(enabled=(unit,))


def answers(machine: Machine, probe: str, *arguments: str) -> bool:
    """Whether a Python program of a few lines, which asks the service, ends well on the machine."""
    return said(machine, "python3", "-I", "-S", "-c", probe, *arguments) is not None


def said(machine: Machine, *program: str) -> str | None:
    """What a program tells about the service; None unless it ends well, and soon."""
    try:
        told = machine.run(Command(program, timeout=_PROBE_SECONDS))
    except TimedOut:
        return None
    return told.text if told.exit_code == 0 else None
