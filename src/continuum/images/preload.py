"""Give containerd images before it is started for the first time, by the image's own containerd.

    unshare --mount --pid --fork … --net python -m continuum.images.preload TASK

TASK is a JSON object with the fields of `Task`. Runs as the first process of namespaces of its own,
without a network: all that it starts and mounts ends with it. Prints the path of each archive that
is in.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

NAMESPACE = "k8s.io"
"""Where Kubernetes looks for images, and so we do."""

START_LIMIT = 30.0
STOP_LIMIT = 30.0
IMPORT_LIMIT = 600.0
_AT_ONCE = 2

_CLIENT = ("ctr", f"--namespace={NAMESPACE}", "images")
_FOLDER = "var/lib/containerd"
_LAYERS = "opt/continuum/container-layers"
_SOCKET = "/run/containerd/containerd.sock"
_SETTINGS = "/preload.toml"
# Images are stored and unpacked, nothing is run.
_SETTINGS_TEXT = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
"""


@dataclass(frozen=True)
class Task:
    """What to do.

    Attributes:
        lower: root folder of a layer that has containerd.
        store: the folder that becomes containerd's own; it may hold images already.
        layers: where links in it lead.
        work: folder for what is thrown away.
        names: of all images that are to be there in the end, and no other.
        archives: of those that are not there yet.
    """

    lower: str
    store: str
    layers: str
    work: str
    names: list[str]
    archives: list[str]


def main(arguments: list[str]) -> None:
    """Mount, start containerd, import, look, stop it."""
    task = Task(**json.loads(arguments[0]))
    point = Path(task.work, "point")
    files = [os.open(archive, os.O_RDONLY) for archive in task.archives]
    _mount(task, point)
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
                for file, archive in zip(files, task.archives, strict=True)
            }
            for each in as_completed(done):
                each.result()
                sys.stdout.write(f"{done[each]}\n")
                sys.stdout.flush()
        surplus = sorted(set(_images("list", "--quiet").split()) - set(task.names))
        if surplus:
            _images("remove", "--sync", *surplus)
        _look(task.names)
    finally:
        containerd.terminate()
        containerd.wait(STOP_LIMIT)


def _mount(task: Task, point: Path) -> None:
    upper, work = Path(task.work, "upper"), Path(task.work, "work")
    binds = {_FOLDER: task.store, _LAYERS: task.layers}
    for folder in (point, work, *map(Path, binds.values()), *(upper / each for each in binds)):
        folder.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={task.lower},upperdir={upper},workdir={work}"
    mounts = (
        ("mount", "-t", "overlay", "overlay", "-o", options, str(point)),
        ("mount", "-t", "proc", "proc", f"{point}/proc"),
        ("mount", "--rbind", "/dev", f"{point}/dev"),
        *(("mount", "--bind", source, f"{point}/{inside}") for inside, source in binds.items()),
    )
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
    subprocess.run(
        (*_CLIENT, "import", "-"),
        stdin=file,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=IMPORT_LIMIT,
    )


def _images(*arguments: str) -> str:
    done = subprocess.run(
        (*_CLIENT, *arguments), check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )
    return done.stdout


def _look(names: list[str]) -> None:
    """Make sure that all images are there, whole and unpacked: a node would try to pull others."""
    rows = [line.split() for line in _images("check").splitlines()[1:]]
    good = {row[0] for row in rows if "complete" in row and row[-1] == "true"}
    if not good.issuperset(names):
        sys.exit(f"ctr: not whole: {', '.join(sorted(set(names) - good))}")


if __name__ == "__main__":
    main(sys.argv[1:])
