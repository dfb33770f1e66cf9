"""What `doctor` finds out: every prerequisite of provider `libvirt`, by trying it."""

from __future__ import annotations

from collections.abc import Callable

from continuum.errors import NotPossibleHere
from continuum.experiment.units import show_bytes
from continuum.infrastructure.providers import common_checks
from continuum.infrastructure.providers.contract import Check
from continuum.infrastructure.providers.libvirt import daemon, fit, kvm, platforms


def all_checks() -> list[Check]:
    """Every prerequisite, tried. Leaves nothing behind."""
    tried: list[Callable[[], Check]] = [
        common_checks.package_sources,
        common_checks.disk_space,
        common_checks.firewall,
        common_checks.other_firewalls,
        common_checks.interfaces,
        common_checks.closed_ports,
        libvirt,
        kvm_,
        memory,
    ]
    return common_checks.all_of(_programs(), tried)


def _programs() -> list[tuple[str, str, tuple[str, ...]]]:
    platform = platforms.here()
    return [
        ("libvirtd", "libvirt-daemon-system", ("--version",)),
        (platform.emulator, platform.package, ("--version",)),
        ("qemu-img", "qemu-utils", ("--version",)),
        ("mkfs.ext4", "e2fsprogs", ("-V",)),
        ("mmdebstrap", "mmdebstrap", ("--version",)),
        ("iptables-restore", "iptables", ("--version",)),
        ("ip", "iproute2", ("-V",)),
        ("ssh", "openssh-client", ("-V",)),
        ("setpriv", "util-linux", ("--version",)),
    ]


def libvirt() -> Check:
    """It answers; where nothing starts it, we do, and stop it again."""
    runs = daemon.answers()
    try:
        with daemon.connection() as opened:
            version = opened.getLibVersion()
            offered = opened.getCapabilities()
    except NotPossibleHere as error:
        return Check("libvirt", ok=False, detail=error.message, mend=error.hint)
    cpu = platforms.here().cpu
    ok = f"<arch name='{cpu}'>" in offered
    detail = f"{daemon.version(version)}, " + (
        "it runs" if runs else "`up` starts and `down` stops it"
    )
    return Check(
        "libvirt",
        ok=ok,
        detail=detail if ok else f"{detail}; it makes no virtual machines of {cpu}",
        mend=f"apt-get install -y {platforms.here().package} libvirt-daemon-system",
    )


def kvm_() -> Check:
    """Whether guests run on the processor itself; they run without it too, more slowly."""
    found = kvm.known()
    return Check(
        "KVM",
        ok=found.works is not False,
        detail=found.reason if found.works is not False else f"{found.reason}; software emulation",
        mend="switch virtualisation on in the firmware, or nested virtualisation in the host around",
        needed=False,
    )


def memory() -> Check:
    """Virtual machines take theirs whole."""
    found = fit.memory_of_host()
    if found is None:
        return Check("memory", ok=True, detail="not known", needed=False)
    room = max(0, found - fit.KEPT)
    return Check("memory", ok=True, detail=f"{show_bytes(room)} for virtual machines", needed=False)
