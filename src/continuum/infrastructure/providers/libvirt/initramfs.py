"""What the kernel of a virtual machine starts from: drivers, and a script that finds the machine.

Debian's kernel for virtual machines has its drivers as modules. The script loads them, mounts the
machine's disk, unpacks the seed over it, sets the address, and becomes the machine's own init.
"""

from __future__ import annotations

import gzip
import lzma
import posixpath
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from continuum.errors import StepFailed
from continuum.machine import Command, run_on_host

DRIVERS = (
    *("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng"),
    *("ext4", "crc32c_generic"),
)
"""Modules that are loaded, where the kernel has them as modules."""

SAYS = "continuum:"
"""How what the script says on the console begins."""

ALIVE = "continuum-kernel-runs"
"""What the kernel of a trial says before it switches itself off."""

INIT = f"""#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

stop() {{
    echo "{SAYS} $1; the machine is switched off"
    sync
    poweroff -f
    # The power goes in a moment.
    while :; do sleep 1; done
}}

for module in /modules/*; do
    insmod "$module" || stop "$module cannot be loaded"
done

address= gateway= modules=
for word in $(cat /proc/cmdline); do
    case $word in
    continuum.address=*) address=${{word#*=}} ;;
    continuum.gateway=*) gateway=${{word#*=}} ;;
    continuum.modules=*) modules=${{word#*=}} ;;
    esac
done

tries=0
while [ ! -b /dev/vda ] || [ ! -b /dev/vdb ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || stop "the machine's disks do not appear"
    sleep 0.1
done
mount -t ext4 -o noatime /dev/vda /root || stop "the machine's disk cannot be mounted"
tar -x -f /dev/vdb -C /root || stop "the machine's own files cannot be unpacked"

ip link set lo up
ip address add "$address" dev eth0 || stop "the machine's address cannot be set"
ip link set eth0 up
[ -z "$gateway" ] || ip route add default via "$gateway"

for folder in proc sys dev; do mount --move /$folder /root/$folder; done
[ -z "$modules" ] || chroot /root /sbin/modprobe --all $(echo "$modules" | tr , ' ')
exec switch_root /root /sbin/init
"""

TRIAL_INIT = f"""#!/bin/busybox sh
/bin/busybox echo {ALIVE}
/bin/busybox poweroff -f
while :; do /bin/busybox sleep 1; done
"""


@dataclass(frozen=True)
class Entry:
    """A file, or a folder when `content` is None."""

    path: str
    content: bytes | None
    mode: int


def load_order(dependencies: str, wanted: Iterable[str]) -> list[str]:
    """Paths of the modules to load, each after those that it needs.

    `dependencies` is the text of `modules.dep`. What is not in it is part of the kernel itself.
    """
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {_name(path): path for path in needs}
    ordered: dict[str, None] = {}
    for name in wanted:
        if name in by_name:
            # modules.dep names what must be loaded first last.
            ordered.update(dict.fromkeys([*reversed(needs[by_name[name]]), by_name[name]]))
    return list(ordered)


def _name(path: str) -> str:
    return posixpath.basename(path).partition(".")[0].replace("-", "_")


def archive(entries: Iterable[Entry]) -> bytes:
    """The files as the kernel reads them: a cpio archive in its "newc" form."""
    parts: list[bytes] = []
    whole = [*entries, Entry("TRAILER!!!", b"", 0)]
    for number, entry in enumerate(whole, start=1):
        name = entry.path.encode() + b"\0"
        content = entry.content or b""
        kind = stat.S_IFDIR if entry.content is None else stat.S_IFREG
        mode = kind | entry.mode if entry.mode else 0
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        parts += [part + b"\0" * (-len(part) % 4) for part in (header + name, content)]
    return b"".join(parts)


def make(system: Path, version: str) -> bytes:
    """The archive for machines, from the files of an image that has the kernel of that version."""
    modules = system / "usr/lib/modules" / version
    order = load_order((modules / "modules.dep").read_text(), DRIVERS)
    folders = [
        Entry(each, None, 0o755) for each in ("bin", "dev", "modules", "proc", "root", "sys")
    ]
    drivers = [
        Entry(f"modules/{number:02}-{_name(path)}.ko", _unpacked(modules / path), 0o644)
        for number, path in enumerate(order)
    ]
    return archive([*folders, _busybox(system), *drivers, Entry("init", INIT.encode(), 0o755)])


def make_trial(system: Path) -> bytes:
    """The archive of a trial: the kernel says that it runs, and switches itself off."""
    folders = [Entry(each, None, 0o755) for each in ("bin", "dev", "proc")]
    return archive([*folders, _busybox(system), Entry("init", TRIAL_INIT.encode(), 0o755)])


def _busybox(system: Path) -> Entry:
    return Entry("bin/busybox", (system / "usr/bin/busybox").read_bytes(), 0o755)


def _unpacked(module: Path) -> bytes:
    content = module.read_bytes()
    match module.suffix:
        case ".ko":
            return content
        case ".gz":
            return gzip.decompress(content)
        case ".xz":
            return lzma.decompress(content)
        case ".zst":
            command = Command(("zstd", "--decompress", "--stdout", str(module)))
            return run_on_host(command).check(hint="apt-get install -y zstd").stdout
    raise StepFailed(f"a driver of the machine image is packed in an unknown way: {module.name}")
