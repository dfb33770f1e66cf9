"""What differs between the processors that virtual machines can have here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from continuum.errors import NotPossibleHere
from continuum.images import sources
from continuum.images.recipe import Recipe

_SERVICE_MANAGER = Path("/run/systemd/system")

_IN_EVERY_GUEST = ("busybox-static", "iptables", "kmod")
"""What a machine with a kernel of its own needs beside that kernel."""


@dataclass(frozen=True)
class Platform:
    """One architecture, in everybody's words.

    Attributes:
        architecture: by Debian's name.
        cpu: by libvirt's name.
        machine: the kind of computer that QEMU makes.
        emulator: QEMU's program, and `package` the Debian package that has it.
        console: the kernel's name of the first serial line.
        slow_to_emulate: what an emulated processor is better without, by libvirt's names. QEMU
            computes vectors of AVX number by number: a neural network takes 45 s for a photo with
            them, and 3 s without.
    """

    architecture: str
    cpu: str
    machine: str
    emulator: str
    package: str
    console: str
    slow_to_emulate: tuple[str, ...] = ()


PLATFORMS = {
    each.architecture: each
    for each in (
        Platform(
            *("amd64", "x86_64", "q35", "qemu-system-x86_64", "qemu-system-x86", "ttyS0"),
            slow_to_emulate=("avx", "avx2", "f16c", "fma"),
        ),
        Platform("arm64", "aarch64", "virt", "qemu-system-aarch64", "qemu-system-arm", "ttyAMA0"),
    )
}


def here() -> Platform:
    """This host's own.

    Raises:
        NotPossibleHere: there is none for its processor.
    """
    architecture = sources.architecture()
    if architecture not in PLATFORMS:
        raise NotPossibleHere(
            f"there are no virtual machines for {architecture} hosts",
            hint=f"there are for {', '.join(PLATFORMS)}; --provider lxc makes containers",
        )
    return PLATFORMS[architecture]


def kernel_package(distribution: str, architecture: str) -> str:
    """The package that brings a kernel made for virtual machines."""
    if distribution == "ubuntu":
        return "linux-image-virtual"
    return f"linux-image-cloud-{architecture}"


def with_kernel(recipe: Recipe) -> Recipe:
    """The same machine image with a kernel, and the programs that set it up."""
    host = sources.read()
    kernel = kernel_package(host.distribution, host.architecture)
    packages = sorted({*recipe.packages, *_IN_EVERY_GUEST, kernel})
    return replace(recipe, packages=tuple(packages))


def programs() -> dict[str, str]:
    """The Debian package by each program that a host of virtual machines needs."""
    platform = PLATFORMS.get(sources.architecture(), PLATFORMS["amd64"])
    found = {
        "ip": "iproute2",
        "iptables-restore": "iptables",
        "libvirtd": "libvirt-daemon-system",
        "mkfs.ext4": "e2fsprogs",
        "mmdebstrap": "mmdebstrap",
        "qemu-img": "qemu-utils",
        platform.emulator: platform.package,
        "setpriv": "util-linux",
        "ssh": "openssh-client",
        "sysctl": "procps",
        "unshare": "util-linux",
    }
    if not _SERVICE_MANAGER.exists():
        # Otherwise apt takes the half for systemd, and all of systemd with it.
        found["/etc/init.d/libvirtd"] = "libvirt-daemon-system-sysv"
    return found
