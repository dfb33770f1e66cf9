"""The base layer: a small system of Debian or Ubuntu packages that boots to sshd within a second.

Key-only SSH, no passwords, no host keys, no way to name servers, nothing that a machine in an
emulated network has no use for. What differs from machine to machine is put in by the provider.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from continuum import folders
from continuum.errors import NotPossibleHere, StepFailed, TimedOut
from continuum.images import isolated, store
from continuum.images.recipe import DATA_FOLDER, PYTHON_FOLDER, RUNTIME_FOLDER, Recipe
from continuum.images.sources import HOW_TO_BRING, HostSources, is_unreachable
from continuum.machine import Command, run_on_host, stream_on_host
from continuum.secret import without_logins

LAYOUT = 2
"""Raise when what this module writes changes for the same inputs."""

BUILD_LIMIT = 1800.0

_PACKAGES = (
    "iproute2",
    "iputils-ping",
    "openssh-server",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)

# What containers of ours are made of: programs, and Python to run them.
_PACKAGES_WITHOUT_BOOT = ("python3",)

_EXCLUDED = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
    "force-unsafe-io",
)

# Units that slow the boot, or wait for hardware, a console or a network that is not there.
_MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "container-getty@.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@.service",
    "ldconfig.service",
    "man-db.timer",
    "modprobe@.service",
    "motd-news.timer",
    "networking.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-initctl.socket",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-logind.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-resolved.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)

_FILES = {
    "etc/fstab": "",
    "etc/machine-id": "",
    "etc/motd": "",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/ssh/sshd_config.d/00-continuum.conf": (
        "HostKey /etc/ssh/ssh_host_ed25519_key\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\n"
        "UseDNS no\n"
        "PrintMotd no\n"
        "PrintLastLog no\n"
        "MaxSessions 100\n"
        "MaxStartups 100:30:200\n"
    ),
    "etc/systemd/journald.conf.d/continuum.conf": (
        # A journal's file takes its whole size in memory from the start.
        "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\nRuntimeMaxFileSize=512K\nAudit=no\nForwardToSyslog=no\n"
    ),
    "etc/systemd/system.conf.d/continuum.conf": (
        "[Manager]\nDefaultTimeoutStopSec=5s\nStatusUnitFormat=name\n"
    ),
}


def packages(recipe: Recipe) -> tuple[str, ...]:
    """All packages that are asked for by name."""
    own = _PACKAGES if recipe.boots else _PACKAGES_WITHOUT_BOOT
    return tuple(sorted({*own, *recipe.packages}))


def need_root() -> None:
    """Raise unless we are root.

    Raises:
        NotPossibleHere: we are not.
    """
    if os.geteuid() != 0:
        raise NotPossibleHere(
            "building a machine image needs root", hint="run the same command with sudo"
        )


def put(file: Path, content: str) -> None:
    """Write a file that everybody may read, whatever our umask and whoever called us."""
    folders.make_open_folder(file.parent)
    file.unlink(missing_ok=True)
    file.write_text(content)
    file.chmod(0o644)


def make(
    root: Path,
    recipe: Recipe,
    host: HostSources,
    progress: Callable[[str, float | None], None],
) -> dict[str, Any]:
    """Fill `root`; returns the versions that came out.

    Raises:
        NotPossibleHere: the package sources cannot be reached.
        StepFailed: mmdebstrap failed; with apt's last output.
    """
    _mmdebstrap(root, recipe, host, progress)
    progress("settings", 0.95)
    _settle(root)
    if recipe.boots:
        _make_bootable(root, recipe)
    return {
        "distribution": host.distribution,
        "suite": host.suite,
        "architecture": host.architecture,
        "sources": [[entry.suite, *entry.components] for entry in host.entries],
        "python": _python_version(root),
        "packages": _versions(root),
    }


# What mmdebstrap says, and how much of its time has passed when it says so.
_MILESTONES = {
    "running apt-get update": ("reading package lists", 0.02),
    "downloading packages": ("downloading packages", 0.15),
    "extracting archives": ("unpacking the essential packages", 0.35),
    "installing essential packages": ("installing the essential packages", 0.45),
    "installing remaining packages": ("installing packages", 0.6),
    "cleaning package lists": ("cleaning", 0.93),
}


def _mmdebstrap(
    root: Path,
    recipe: Recipe,
    host: HostSources,
    progress: Callable[[str, float | None], None],
) -> None:
    source_list = root.parent / "sources.list"
    settings = root.parent / "apt.conf"
    # They may hold a proxy's or a mirror's password.
    folders.write_file(source_list, host.lines(), folders.PRIVATE_FILE)
    folders.write_file(settings, _apt_settings(), folders.PRIVATE_FILE)
    command = (
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        f"--architectures={host.architecture}",
        f"--include={','.join(packages(recipe))}",
        f"--aptopt={settings}",
        *(f"--dpkgopt={option}" for option in _EXCLUDED),
        host.suite,
        str(root),
        str(source_list),
    )
    try:
        for line in stream_on_host(
            isolated.in_own_namespaces(command, BUILD_LIMIT, store.temporary_files(root))
        ):
            for said, (detail, fraction) in _MILESTONES.items():
                if said in line:
                    progress(detail, fraction)
    except StepFailed as error:
        if is_unreachable(error.output):
            silent = [line for line in error.output.splitlines() if is_unreachable(line)]
            raise NotPossibleHere(
                "the machine image is not in the cache, and this host's package sources, "
                "which it is made from, cannot be reached",
                where=", ".join(f"{entry.address} {entry.suite}" for entry in host.entries),
                output="\n".join(dict.fromkeys(line.strip() for line in silent)),
                hint=f"try `apt-get update` on this host; {HOW_TO_BRING}",
            ) from error
        raise StepFailed(
            "the machine image could not be built from this host's package sources"
            + (f": no end within {BUILD_LIMIT:g} s" if isinstance(error, TimedOut) else ""),
            where=f"mmdebstrap, sources in {source_list.name}: "
            + ", ".join(f"{entry.address} {entry.suite}" for entry in host.entries),
            output=error.output,
            hint="try `apt-get update` on this host: the image takes the same sources",
        ) from error
    source_list.unlink()
    settings.unlink()


def _apt_settings() -> str:
    """How this host's apt reaches its sources: proxies, certificates, retries."""
    shown = run_on_host(Command(("apt-config", "dump", "Acquire"), timeout=30)).check().text
    kept = [
        line
        for line in shown.splitlines()
        if not line.startswith(("Acquire::Languages", "Acquire::GzipIndexes", "Acquire::IndexT"))
        and not line.startswith(("Acquire::CompressionTypes", "Acquire::Changelogs"))
        and not line.endswith(' "";')
    ]
    return "\n".join(kept) + "\n"


def _settle(root: Path) -> None:
    """Nothing of this host, and no logs; our own folders."""
    # They may hold a proxy's or a mirror's password.
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    sources = root / "etc/apt/sources.list"
    if sources.is_file():
        put(sources, without_logins(sources.read_text(errors="replace")))
    # A resolver that does not answer costs programs tens of seconds; no resolver costs none.
    for name in ("etc/hostname", "etc/resolv.conf"):
        put(root / name, "")
    for folder in (PYTHON_FOLDER, RUNTIME_FOLDER, DATA_FOLDER):
        folders.make_open_folder(root / folder.lstrip("/"))
    for log in (root / "var/log").rglob("*"):
        if log.is_file():
            log.unlink()


def _make_bootable(root: Path, recipe: Recipe) -> None:
    """Everything that makes it a machine of ours rather than a plain system."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for path, content in _FILES.items():
        put(root / path, content)
    units = root / "etc/systemd/system"
    for unit in _MASKED:
        link = units / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    default = units / "default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/lib/systemd/system/multi-user.target")
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    for unit in recipe.units.enabled:
        _systemctl(root, "enable", unit)
    for unit in recipe.units.disabled:
        _systemctl(root, "disable", unit)


def _systemctl(root: Path, verb: str, unit: str) -> None:
    command = Command(("chroot", str(root), "systemctl", verb, unit), timeout=30)
    run_on_host(command).check(
        f"unit {unit} of the machine image cannot be switched "
        f"{'on' if verb == 'enable' else 'off'}",
        hint="which package is it in? It must be one of the recipe's",
    )


def _python_version(root: Path) -> str:
    """As `3.11`: what /usr/bin/python3 points to."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")


def _versions(root: Path) -> dict[str, str]:
    shown = run_on_host(
        Command(
            (
                "dpkg-query",
                f"--admindir={root}/var/lib/dpkg",
                "--show",
                "--showformat=${Package} ${Version}\n",
            )
        )
    ).check()
    return dict(sorted(line.split(" ", 1) for line in shown.text.splitlines()))
