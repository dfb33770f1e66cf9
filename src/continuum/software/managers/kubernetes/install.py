"""What a machine image of a cluster holds: programs, units, and the control plane's images."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from continuum import folders
from continuum.artifacts import catalogue
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.images import program_image
from continuum.artifacts.store import ArtifactStore
from continuum.events import Events
from continuum.images.container_runtime import containerd_tree
from continuum.images.containers import ContainerImage
from continuum.images.recipe import (
    RUNTIME_FOLDER,
    ContainerImages,
    DebianPackages,
    InstallStep,
    Tree,
    Units,
    fingerprint,
)
from continuum.software.managers.kubernetes.audit import audit_policy
from continuum.software.managers.kubernetes.kubeadm import AUDIT_POLICY, patience, proxy_document

PROGRAMS = ("kubelet", "kubeadm", "kubectl", "kube-proxy")
STATIC_PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")

NODE_FILE = "/etc/kubernetes/continuum-node.json"
"""What `continuum_runtime.cluster_node` reads on each node."""

NODE_PROGRAM = f"{RUNTIME_FOLDER}/continuum_runtime/cluster_node.py"

JOIN_PROGRAM = f"{RUNTIME_FOLDER}/continuum_runtime/join_cluster.py"

_BIN = "usr/local/bin"
_WANTED_BY = re.compile(r"^WantedBy=(\S+)$", re.MULTILINE)
_PROXY_FILE = "/etc/kubernetes/kube-proxy.json"

# Of containers: bridge, addresses and ports. Of kubelet and kubeadm: the rest.
_PACKAGES = (
    "conntrack",
    "containernetworking-plugins",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "python3",
    "socat",
    "util-linux",
)

_KUBELET = f"""\
[Unit]
Description=Kubernetes node agent
Wants=containerd.service
After=containerd.service network-online.target
ConditionPathExists=/var/lib/kubelet/config.yaml
StartLimitIntervalSec=0

[Service]
EnvironmentFile=-/run/continuum/kubelet.environment
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStartPre=/sbin/sysctl --quiet --load=/etc/kubernetes/sysctl.conf
ExecStartPre=/usr/bin/python3 {NODE_PROGRAM} {NODE_FILE} /run/continuum/kubelet.environment
ExecStart=/usr/local/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
--kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \
$KUBELET_KUBEADM_ARGS $KUBELET_SIZE_ARGS
Restart=always
RestartSec=1
OOMScoreAdjust=0

[Install]
WantedBy=multi-user.target
"""

_PROXY = f"""\
[Unit]
Description=Kubernetes services on this node
After=network-online.target
ConditionPathExists=/etc/kubernetes/kubelet.conf
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/local/bin/kube-proxy --config={_PROXY_FILE} --hostname-override=%H
Restart=always
RestartSec=1
"""

_PROXY_PATH = """\
[Unit]
Description=Start of kube-proxy when this machine has joined a cluster

[Path]
PathExists=/etc/kubernetes/kubelet.conf

[Install]
WantedBy=multi-user.target
"""

# The machine carries packets of its pods, and answers for their addresses on the network.
_SYSCTL = """\
net.ipv4.ip_forward = 1
net.ipv4.conf.eth0.proxy_arp = 1
net.ipv4.neigh.eth0.proxy_delay = 0
"""


@dataclass(frozen=True)
class Versions:
    """What a cluster is made of, each as `v1.34.4`."""

    kubernetes: str
    etcd: str
    coredns: str
    pause: str

    @classmethod
    def of(cls, asked: str | None) -> Versions:
        """The versions for the version of Kubernetes that is asked for.

        Raises:
            NotPossibleHere: a minor release that cannot be looked up here.
            UsageError: there is no such version.
        """
        store = ArtifactStore(Events())
        return cls(
            store.version("kubernetes", asked),
            *(store.version(name) for name in ("etcd", "coredns", "pause")),
        )

    def wanted(self, program: str) -> Wanted:
        """The artifact of one of the programs."""
        return Wanted(program, getattr(self, catalogue.project_of(program).name))

    def image(self, program: str) -> ContainerImage:
        """The container image of one of the programs."""
        return program_image(ArtifactStore(Events()), self.wanted(program))


def node_steps(versions: Versions) -> tuple[InstallStep, ...]:
    """For every machine of the cluster."""
    images = (*STATIC_PODS, "etcd", "coredns", "pause")
    return (
        DebianPackages(_PACKAGES),
        containerd_tree(versions.image("pause").reference),
        program_tree(
            "kubernetes",
            [versions.wanted(each) for each in PROGRAMS],
            _units(versions.kubernetes),
            images_too=[versions.wanted(each) for each in images],
        ),
        Units(enabled=("containerd.service",)),
        ContainerImages(tuple(versions.image(each) for each in images)),
    )


def program_tree(
    name: str,
    programs: list[Wanted],
    files: Mapping[str, str],
    *,
    images_too: list[Wanted] | None = None,
) -> Tree:
    """Programs in /usr/local/bin, and files by their paths.

    What is needed for container images is fetched together with them, so that one look tells all
    that is missing.
    """
    inputs = fingerprint(sorted(map(catalogue.identity, programs)), sorted(files.items()))
    both = [*programs, *(images_too or ())]

    def prepare(events: Events) -> None:
        ArtifactStore(events).fetch_all(both)

    def write(root: Path, progress: Callable[[str], None]) -> None:
        progress("copying programs")
        folder = folders.make_folder(root / _BIN)
        for artifact in ArtifactStore(Events()).fetch_all(programs):
            shutil.copyfile(artifact.path, folder / artifact.name)
            (folder / artifact.name).chmod(0o755)
        for path, text in files.items():
            folders.write_file(root / path.lstrip("/"), text)
        _enable(root, [path for path in files if path.startswith("/etc/systemd/system/")])

    return Tree(name, inputs, write, prepare)


def _units(version: str) -> dict[str, str]:
    return {
        "/etc/systemd/system/kubelet.service": _KUBELET,
        "/etc/systemd/system/kube-proxy.service": _PROXY,
        "/etc/systemd/system/kube-proxy.path": _PROXY_PATH,
        "/etc/kubernetes/sysctl.conf": _SYSCTL,
        _PROXY_FILE: json.dumps(proxy_document(version), indent=1) + "\n",
        AUDIT_POLICY: json.dumps(audit_policy(), indent=1) + "\n",
        **patience(),
    }


def _enable(root: Path, units: list[str]) -> None:
    """Switch on the units that say by what they are wanted."""
    for path in units:
        for wanting in _WANTED_BY.findall((root / path.lstrip("/")).read_text()):
            wants = folders.make_folder(root / f"etc/systemd/system/{wanting}.wants")
            link = wants / Path(path).name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
