"""containerd in machines: its settings, the same for whoever runs containers with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from continuum import folders
from continuum.images.preload import NAMESPACE
from continuum.images.recipe import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CNI_PROGRAMS",
    "CNI_SETTINGS",
    "DOCKER",
    "INIT",
    "MIRRORS",
    "NAMESPACE",
    "SOCKET",
    "containerd_tree",
    "docker_tree",
]

CNI_PROGRAMS = "/usr/lib/cni"
"""Where Debian's containernetworking-plugins lie."""

CNI_SETTINGS = "/etc/cni/net.d"

MIRRORS = "/etc/containerd/certs.d"
"""Which server has the images of a registry: one folder each, named after it."""

SOCKET = "/run/containerd/containerd.sock"

DOCKER = "/usr/bin/docker"

INIT = "/usr/bin/tini-static"
"""What Debian's package tini has for the first process of a container."""

_PATH = "etc/containerd/config.toml"
_DROP_IN = "etc/systemd/system/containerd.service.d/continuum.conf"
_DOCKER_PATH = "etc/docker/daemon.json"
_DOCKER_DROP_INS = (
    "etc/systemd/system/docker.service.d/continuum.conf",
    "etc/systemd/system/docker.socket.d/continuum.conf",
)

# Containers need to change settings of the kernel: where they cannot, nobody carries any, and
# containerd would only cost memory.
_CONDITION = """\
[Unit]
ConditionPathIsReadWrite=/proc/sys
"""
_DROP_IN_TEXT = f"""\
{_CONDITION}
[Service]
ExecStartPre=
"""


def containerd_tree(sandbox_image: str) -> Tree:
    """The settings of containerd: cgroupfs, overlay, no score of the out-of-memory killer below
    its own, and `sandbox_image` for what holds a pod together ("" where there are no pods).
    """
    text = _settings(sandbox_image)

    def write(root: Path, progress: Callable[[str], None]) -> None:
        progress("containerd: settings")
        folders.write_file(root / _PATH, text)
        folders.write_file(root / _DROP_IN, _DROP_IN_TEXT)
        folders.make_open_folder(root / MIRRORS.lstrip("/"))

    return Tree("containerd-settings", text + _DROP_IN_TEXT, write)


def docker_tree() -> Tree:
    """The settings of Docker's daemon: containers have the machine's own network, so it makes
    neither a bridge nor rules.
    """
    settings = {
        "bridge": "none",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        # A registry on the emulated network speaks plainly.
        "insecure-registries": ["10.0.0.0/8"],
        "ip-forward": False,
        "ip-masq": False,
        "iptables": False,
        "storage-driver": "overlay2",
    }
    text = json.dumps(settings, indent=2) + "\n"

    def write(root: Path, progress: Callable[[str], None]) -> None:
        progress("docker: settings")
        folders.write_file(root / _DOCKER_PATH, text)
        for path in _DOCKER_DROP_INS:
            folders.write_file(root / path, _CONDITION)

    return Tree("docker-settings", text + _CONDITION, write)


def _settings(sandbox_image: str) -> str:
    sandbox = f'sandbox_image = "{sandbox_image}"\n' if sandbox_image else ""
    return f"""\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
{sandbox}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{CNI_SETTINGS}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{MIRRORS}"
"""
