"""LXC's work on this host each time before a machine's first process, as a shell script; pure.

LXC sets limits on the group above the one that a machine has for its root, where the machine cannot
change them. Two things are left:

- Version 1's disk rates hold in the very group that a process is in, not in those below it: they
  are set on the machine's own group, and it sees no hierarchy in which it could make another one.
- Programs that size themselves by their control group see no further up than the machine's root:
  memory and cores are shown there too. What limits is the group above.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from continuum.infrastructure.host.cgroups import ControlGroups
from continuum.infrastructure.plan import MachineSpec

INNER_GROUP = "inside"
"""The group that a machine has for its root, below the one with its limits."""

SHOWN_PERIOD = 100_000
"""Microseconds over which the quota counts that is shown: the kernel's own, and so long that it is
the group above that stops a machine, in its shorter periods."""

_SCRIPT = """\
#!/bin/sh
# LXC gives the name of the container, of the section, and of the hook.
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
show() {{
    if [ -e "$2" ]; then printf '%s\\n' "$1" >"$2"; fi
}}
case $3 in
start-host)
{start}
    ;;
mount)
{mount}
    ;;
esac
"""


def config_lines(
    path: Path, spec: MachineSpec, groups: ControlGroups, disk: str | None
) -> list[str]:
    """Lines of the container's configuration that have LXC run the script at that path."""
    names = ["start-host", *(["mount"] if _sets_rates(spec, groups, disk) else [])]
    return [f"lxc.hook.{name} = /bin/sh {shlex.quote(str(path))}" for name in names]


def script(spec: MachineSpec, groups: ControlGroups, disk: str | None, group: str) -> str:
    """The script's text. `disk` is the number of the disk that has the rates, as `254:0`; `group`
    the one with the machine's limits, below each hierarchy.
    """
    start = [
        f"    show {shlex.quote(value)} {shlex.quote(str(_inner(groups, controller, group) / file))}"
        for controller, file, value in _shown(spec, groups)
    ]
    mount = []
    if _sets_rates(spec, groups, disk):
        inner = _inner(groups, "io", group)
        start += [
            f"    printf '%s\\n' {shlex.quote(f'{disk} {rate}')} "
            f">{shlex.quote(str(inner / f'blkio.throttle.{word}_bps_device'))}"
            for word, rate in (("read", spec.disk_read), ("write", spec.disk_write))
            if rate is not None
        ]
        # Its root could make another group beside it, and leave the rates, were it that root's.
        ways = " ".join(shlex.quote(str(inner / name)) for name in (".", "cgroup.procs", "tasks"))
        start.append(f'    for each in {ways}; do [ ! -e "$each" ] || chown 0:0 "$each"; done')
        mount = _cover(groups.folders["io"])
    return _SCRIPT.format(start="\n".join(start or ["    :"]), mount="\n".join(mount or ["    :"]))


def _sets_rates(spec: MachineSpec, groups: ControlGroups, disk: str | None) -> bool:
    """Tell whether disk rates are set here, and not by LXC on the group above."""
    asked = spec.disk_read is not None or spec.disk_write is not None
    return asked and disk is not None and groups.versions.get("io") == 1


def _inner(groups: ControlGroups, controller: str, group: str) -> Path:
    return groups.folders[controller] / group / INNER_GROUP


def _shown(spec: MachineSpec, groups: ControlGroups) -> list[tuple[str, str, str]]:
    """The values that the machine's own root shows: controller, file, value."""
    quota = round(spec.cores * spec.quota * SHOWN_PERIOD)
    files = {
        ("memory", 1): ("memory.limit_in_bytes", str(spec.memory)),
        ("memory", 2): ("memory.max", str(spec.memory)),
        ("cpu", 1): ("cpu.cfs_quota_us", str(quota)),
        ("cpu", 2): ("cpu.max", f"{quota} {SHOWN_PERIOD}"),
    }
    return [
        (controller, *files[controller, version])
        for controller in ("memory", "cpu")
        if (version := groups.versions.get(controller)) is not None
    ]


def _cover(hierarchy: Path) -> list[str]:
    """Put an empty folder in the place of a hierarchy, as the machine will see it.

    An empty place would not do: systemd mounts what it does not find.
    """
    place = f'"$LXC_ROOTFS_MOUNT"/sys/fs/cgroup/{shlex.quote(hierarchy.name)}'
    return [
        f"    if [ -d {place} ]; then",
        f"        umount {place}",
        f"        mount -t tmpfs -o ro,nosuid,nodev,noexec,size=4k none {place}",
        "    fi",
    ]
