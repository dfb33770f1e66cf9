"""A program that root of a machine runs: it tries what it must not be able to do to its host.

    python3 - TASK < attacks.py

TASK is a JSON object of what the host has for it to try; the answer is one of what came of each
attack, by its name: the kernel's refusal in words, or `done`. Nothing is written to what opens, so
that an attack that succeeds harms nobody.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

DONE = "done"
_libc = ctypes.CDLL(None, use_errno=True)
_POINT = Path("/mnt")

# Numbers of amd64, and of all others, which have the same as arm64.
_NUMBERS = {
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "syslog": (103, 116),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "clock_settime": (227, 112),
    "add_key": (248, 217),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
}


def call(name: str, *arguments: object) -> str:
    """Outcome of a system call."""
    number = _NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    if _libc.syscall(ctypes.c_long(number), *given) >= 0:
        return DONE
    return errno.errorcode[ctypes.get_errno()]


def attempt(work: Callable[[], object]) -> str:
    """Outcome of some work."""
    try:
        work()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return DONE


def opened(path: str | Path, flags: int = os.O_WRONLY) -> str:
    """Outcome of opening a file; it is closed again, and not changed."""
    return attempt(lambda: os.close(os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)))


def mount(what: str, kind: str, flags: int = 0, options: str = "", at: Path = _POINT) -> str:
    """Outcome of mounting."""
    words = [each.encode() for each in (what, str(at), kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode()) == 0:
        return DONE
    return errno.errorcode[ctypes.get_errno()]


def unmount(at: Path = _POINT) -> None:
    """Take off what was mounted last."""
    _libc.umount2(str(at).encode(), 2)


def writable(below: Path) -> Iterator[str]:
    """Every setting below a folder that can be opened for writing."""
    for folder, _, names in os.walk(below):
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or not path.lstat().st_mode & 0o222:
                continue
            if opened(path) == DONE:
                yield str(path.relative_to(below))


def settings() -> dict[str, list[str]]:
    """The kernel's settings that open for writing: as they are, made writable, and mounted anew."""
    bind, read_write = 0x1000, 0x20  # MS_BIND; MS_REMOUNT, without MS_RDONLY
    found = {"as they are": list(writable(Path("/proc/sys")))}
    mount("none", "", bind | read_write, at=Path("/proc/sys"))
    found["made writable"] = list(writable(Path("/proc/sys")))
    for kind, folder in (("proc", _POINT / "sys"), ("sysfs", _POINT)):
        if mount(kind, kind) == DONE:
            found[f"{kind} mounted anew"] = list(writable(folder))
            unmount()
    dangers = ("sysrq-trigger", "kcore", "kmsg", "1/mem")
    found["files of /proc"] = [
        name for name in dangers if name != "1/mem" and opened(f"/proc/{name}", os.O_WRONLY) == DONE
    ]
    found["/sys"] = [
        each for each in writable(Path("/sys/kernel")) if not each.startswith("cgroup/")
    ]
    return found


def devices(numbers: dict[str, list[int]]) -> dict[str, str]:
    """Devices of the host, made by their numbers and opened for reading."""
    found = {}
    for name, (kind, major, minor) in numbers.items():
        path = Path("/root/device")

        def take(
            path: Path = path, kind: int = kind, number: int = os.makedev(major, minor)
        ) -> None:
            os.mknod(path, 0o600 | kind, number)
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))

        found[name] = attempt(take)
        path.unlink(missing_ok=True)
    return found


def calls() -> dict[str, str]:
    """System calls on the kernel that all share."""
    nothing = ctypes.c_void_p(None)
    attribute = ctypes.create_string_buffer(128)
    # As it is: where this is allowed, it changes nothing.
    now = struct.pack("ll", *divmod(time.time_ns(), 10**9))
    handle = struct.pack("Ii", 8, 1) + bytes(8)
    return {
        "init_module": call("init_module", nothing, 0, b""),
        "finit_module": call("finit_module", 0, b"", 0),
        "delete_module": call("delete_module", b"nosuch", 0),
        "kexec_load": call("kexec_load", 0, 0, nothing, 0),
        "open_by_handle_at": call("open_by_handle_at", 0, handle, 0),
        "bpf": call("bpf", 0, attribute, 128),
        "perf_event_open": call("perf_event_open", attribute, -1, 0, -1, 0),
        "syslog": call("syslog", 3, ctypes.create_string_buffer(64), 64),
        "swapon": call("swapon", b"/etc/hostname", 0),
        "swapoff": call("swapoff", b"/etc/hostname"),
        "clock_settime": call("clock_settime", 0, now),
        **({"iopl": attempt(lambda: _checked(_libc.iopl(3)))} if hasattr(_libc, "iopl") else {}),
    }


def _checked(status: int) -> None:
    if status != 0:
        raise OSError(ctypes.get_errno(), "refused")


def limits(group: str) -> dict[str, str]:
    """Limits of the machine's own, written by it where it sees them or mounts them."""
    found = {}
    root = Path("/sys/fs/cgroup")
    for name in ("memory.limit_in_bytes", "cpu.cfs_quota_us", "pids.max", "memory.max", "cpu.max"):
        for path in (root / name, *root.glob(f"*/{name}")):
            # What is shown here may be changed; what limits is in the group above.
            if path.exists() and name == "pids.max":
                found[str(path)] = opened(path)
    for options in ("memory", "cpu", "blkio", "devices", ""):
        kind = "cgroup" if options else "cgroup2"
        if mount("none", kind, 0, options) != DONE:
            continue
        seen = [str(each) for each in _POINT.rglob(f"*{group}*")]
        found[f"{options or 'version 2'} shows the group above"] = DONE if seen else "no"
        if options == "blkio":
            place = _POINT / "beside"
            found["a group beside the disk rates"] = attempt(place.mkdir)
            if place.exists():
                place.rmdir()
        if options == "devices":
            found["devices.allow"] = opened(_POINT / "devices.allow")
        found[f"{options} release_agent"] = opened(_POINT / "release_agent")
        unmount()
    return found


def others(name: str, key: int, pid: int) -> dict[str, str]:
    """Sockets, keys and processes of the host."""
    with socket.socket(socket.AF_UNIX) as abstract:
        reached = attempt(lambda: abstract.connect(f"\0{name}"))
    buffer = ctypes.create_string_buffer(64)
    listed = Path("/proc/keys").read_text() if Path("/proc/keys").exists() else ""
    return {
        "abstract socket": reached,
        "key": call("keyctl", 11, key, buffer, 64),
        "key by its name": DONE if name in listed else "no",
        "process": DONE if _is_the_hosts(pid) else "no",
        "ptrace": call("ptrace", 0x4206, pid, 0, 0) if _is_the_hosts(pid) else "ESRCH",
    }


def _is_the_hosts(pid: int) -> bool:
    try:
        return "isolation-canary" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def connections(targets: dict[str, list[object]]) -> dict[str, str]:
    """TCP connections, each tried for a moment."""
    found = {}
    for name, (address, port) in targets.items():
        with socket.socket() as attempted:
            attempted.settimeout(0.5)
            target = (str(address), int(str(port)))
            found[name] = attempt(partial(attempted.connect, target))
    return found


def raw(own: str, spoofed: str, target: str, port: int, gateway: str) -> dict[str, str]:
    """UDP packets to the host made by hand: by a raw socket, and by whole frames."""
    text = b"from inside"
    found = {}
    for name, source in (("raw", own), ("raw, another's address", spoofed)):
        packet = _packet(source, target, port, text)

        def send(packet: bytes = packet) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
                out.sendto(packet, (target, 0))

        found[name] = attempt(send)
    mine = bytes.fromhex(Path("/sys/class/net/eth0/address").read_text().strip().replace(":", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        attempt(lambda: asking.sendto(b"?", (gateway, 9)))
    for line in Path("/proc/net/arp").read_text().splitlines()[1:]:
        if line.split()[0] == gateway:
            theirs = bytes.fromhex(line.split()[3].replace(":", ""))
            frame = theirs + mine + b"\x08\x00" + _packet(spoofed, target, port, text)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
                out.bind(("eth0", 0))
                found["frame"] = attempt(partial(out.send, frame))
    return found


def _packet(source: str, target: str, port: int, text: bytes) -> bytes:
    udp = struct.pack("!HHHH", 4000, port, 8 + len(text), 0) + text
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0),
        *(socket.inet_aton(source), socket.inet_aton(target)),
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", total) + head[12:] + udp


def main() -> None:
    """Try everything."""
    task = json.loads(sys.argv[1])
    answer = {
        "uid_map": Path("/proc/self/uid_map").read_text().split(),
        "calls": calls(),
        "others": others(task["name"], task["key"], task["process"]),
        "connections": connections(task["connections"]),
        "raw": raw(*task["raw"]),
    }
    # Of a node none of these is promised, and some of them would do harm.
    if task["mapped"]:
        answer |= {
            "settings": settings(),
            "devices": devices({"disk": [stat.S_IFBLK, *task["disk"]], **_KERNEL_DEVICES}),
            "kernel log": {
                "/dev/kmsg": opened("/dev/kmsg", os.O_RDONLY),
                "/proc/kmsg": opened("/proc/kmsg", os.O_RDONLY),
            },
            "limits": limits(task["group"]),
        }
    sys.stdout.write(json.dumps(answer))


_KERNEL_DEVICES = {
    "mem": [stat.S_IFCHR, 1, 1],
    "port": [stat.S_IFCHR, 1, 4],
    "kmsg": [stat.S_IFCHR, 1, 11],
    "kvm": [stat.S_IFCHR, 10, 232],
    "loop-control": [stat.S_IFCHR, 10, 237],
}

if __name__ == "__main__":
    main()
