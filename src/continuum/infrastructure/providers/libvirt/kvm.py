"""Whether this host's processor runs guests (KVM): found out by booting one.

`/dev/kvm` may open and still run nothing, as in a virtual machine that does not hand it on. What
was found out counts until the host restarts or the kernel of the guests changes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from continuum import folders, state_file
from continuum.errors import TimedOut
from continuum.infrastructure.providers.libvirt.initramfs import ALIVE
from continuum.infrastructure.providers.libvirt.platforms import Platform
from continuum.machine import Command, run_on_host

DEVICE = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LIMIT = 8.0
"""Seconds for the trial; a processor that runs guests takes less than one."""


@dataclass(frozen=True)
class Kvm:
    """What was found out: `works` is None as long as nobody has tried. `reason` is for a person."""

    works: bool | None
    reason: str


def known(device: Path = DEVICE, kept: Path | None = None) -> Kvm:
    """What is known without trying."""
    if not device.exists():
        return Kvm(works=False, reason=f"this host has no {device}")
    found = state_file.kept(kept or _file(), state_file.OBJECT) or {}
    if found.get("boot") == _boot() and {"works", "reason"} <= found.keys():
        return Kvm(bool(found["works"]), str(found["reason"]))
    return Kvm(works=None, reason="it is tried when machines are made")


def find_out(platform: Platform, kernel: Path, archive: Path) -> Kvm:
    """What is known, or what a trial shows."""
    found = known()
    if found.works is None:
        found = attempt(platform, kernel, archive)
        folders.write_file(_file(), json.dumps({"boot": _boot(), **asdict(found)}) + "\n")
    return found


def attempt(platform: Platform, kernel: Path, archive: Path, accelerator: str = "kvm") -> Kvm:
    """Boot the kernel, which says that it runs, and ends."""
    command = Command(
        (
            *("setpriv", "--pdeathsig", "KILL", platform.emulator),
            *("-machine", f"{platform.machine},accel={accelerator}"),
            *("-cpu", "host" if accelerator == "kvm" else "max"),
            *("-m", "256", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-serial", "stdio", "-kernel", str(kernel), "-initrd", str(archive)),
            *("-append", f"console={platform.console} panic=-1"),
        ),
        timeout=LIMIT if accelerator == "kvm" else 10 * LIMIT,
    )
    try:
        result = run_on_host(command)
    except TimedOut as error:
        said = error.output.strip().splitlines()[-1:] or ["nothing was said"]
        return Kvm(
            works=False, reason=f"a guest did not boot within {command.timeout:g} s: {said[0]}"
        )
    if ALIVE in result.text:
        return Kvm(works=True, reason="a guest booted")
    said = result.last_output.splitlines()[-1:] or ["nothing was said"]
    return Kvm(works=False, reason=f"a guest did not boot: {said[0]}")


def _file() -> Path:
    return folders.cache_folder() / "kvm.json"


def _boot() -> str:
    return BOOT_ID.read_text().strip()
