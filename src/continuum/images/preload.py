"""Give containerd images before it is started for the first time, by the image's own containerd.

    unshare --mount --pid --fork … --net python -m continuum.images.preload
        LOWER STORE WORK ARCHIVE …

LOWER is the root folder of a layer that has containerd, STORE the folder that becomes containerd's
own, WORK one for what is thrown away. Runs as the first process of namespaces of its own, without
a network: all that it starts and mounts ends with it. Prints the name of each archive that is in.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

NAMESPACE = "k8s.io"
"""Where Kubernetes looks for images, and so we do."""

START_LIMIT = 30.0
STOP_LIMIT = 30.0
IMPORT_LIMIT = 600.0
_AT_ONCE = 2

_FOLDER = "var/lib/containerd"
_SOCKET = "/run/containerd/containerd.sock"
_SETTINGS = "/preload.toml"
# Images are stored and unpacked, nothing is run.
_SETTINGS_TEXT = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
"""


def main(arguments: list[str]) -> None:
    """Mount, start containerd, import, stop it."""
    lower, store, work, *archives = arguments
    point = Path(work, "point")
    files = [os.open(archive, os.O_RDONLY) for archive in archives]
    _mount(lower, Path(store), Path(work), point)
    (point / _SETTINGS.lstrip("/")).write_text(_SETTINGS_TEXT)
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", LANG="C.UTF-8", HOME="/root")
    # Names of sockets are short only from inside.
    os.chroot(point)
    os.chdir("/")
    containerd = subprocess.Popen(("containerd", f"--config={_SETTINGS}", "--log-level=warn"))
    try:
        _await_socket(containerd)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            done = {
                pool.submit(_import, file): archive
                for file, archive in zip(files, archives, strict=True)
            }
            for each in as_completed(done):
                each.result()
                sys.stdout.write(f"{done[each]}\n")
                sys.stdout.flush()
    finally:
        containerd.terminate()
        containerd.wait(STOP_LIMIT)


def _mount(lower: str, store: Path, work: Path, point: Path) -> None:
    for folder in (store, point, work / "upper", work / "work"):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
    mounts = (
        ("mount", "-t", "overlay", "overlay", "-o", options, str(point)),
        ("mount", "-t", "proc", "proc", f"{point}/proc"),
        ("mount", "--rbind", "/dev", f"{point}/dev"),
        ("mount", "--bind", str(store), f"{point}/{_FOLDER}"),
    )
    (work / "upper" / _FOLDER).mkdir(parents=True, exist_ok=True)
    for mount in mounts:
        subprocess.run(mount, check=True, timeout=30)


def _await_socket(containerd: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(_SOCKET)
            except OSError:
                if containerd.poll() is not None or time.monotonic() > deadline:
                    raise
            else:
                return
        time.sleep(0.02)


def _import(file: int) -> None:
    arguments = ("ctr", f"--namespace={NAMESPACE}", "images", "import", "-")
    subprocess.run(
        arguments,
        stdin=file,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=IMPORT_LIMIT,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
