"""The first process in `user_mode_linux`'s kernel: `user_mode_init.py FOLDER`, a folder of the host's.

Runs the program that the folder's `job.json` names, writes its exit status to `status`, and switches
the machine off. Nothing here may fail silently: without `status` the test shows the console.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

MODULES = (
    *("veth", "bridge", "ifb", "sch_htb", "sch_tbf", "sch_netem", "sch_ingress", "cls_u32"),
    *("cls_bpf", "iptable_raw", "iptable_filter", "nfnetlink_queue", "xt_NFQUEUE"),
)
"""The modules that links need, where the kernel has them: nothing else loads any."""

LEGACY = ("iptables", "iptables-save", "iptables-restore")
"""Programs by the older of two interfaces to the packet filter, the only one of this kernel."""

_FINIT_MODULE = 313
_POWER_OFF = 0x4321FEDC
_LIBC = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, where: str, options: str = "") -> None:
    """Mount a file system that has no device."""
    if _LIBC.mount(kind.encode(), where.encode(), kind.encode(), 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"mount {where}")


def load(folder: Path) -> None:
    """Load the modules with those that they need, which `modules.dep` names."""
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[Path(path).name.removesuffix(".ko")] = [*reversed(others.split()), path]
    for path in dict.fromkeys(path for name in MODULES for path in needs.get(name, [])):
        with (folder / path).open("rb") as file:
            if _LIBC.syscall(_FINIT_MODULE, file.fileno(), b"", 0) != 0:
                raise OSError(ctypes.get_errno(), f"load {path}")


def main(host_folder: str) -> None:
    """Prepare the machine and run the program."""
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")):
        mount(kind, where)
    shared, programs, temporary = (
        Path("/run", each) for each in ("shared", "programs", "temporary")
    )
    for folder in (shared, programs, temporary):
        folder.mkdir()
    mount("hostfs", str(shared), host_folder)
    job = json.loads((shared / "job.json").read_text())
    load(Path(job["modules"]))
    for name in LEGACY:
        (programs / name).symlink_to(f"/usr/sbin/{name.replace('iptables', 'iptables-legacy')}")
    environment = {
        **job["environment"],
        "PATH": f"{programs}:{job['environment']['PATH']}",
        "TMPDIR": str(temporary),
    }
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True, env=environment)
    ended = subprocess.run(
        job["program"], cwd=job["folder"], env=environment, timeout=job["limit"], check=False
    )
    (shared / "status").write_text(str(ended.returncode))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BaseException:  # noqa: BLE001  whatever it is: the machine goes off, and the console tells
        traceback.print_exc()
    sys.stdout.flush()
    os.sync()
    _LIBC.reboot(_POWER_OFF)
