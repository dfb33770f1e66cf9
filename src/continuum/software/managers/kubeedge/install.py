"""What a machine image of KubeEdge holds beside Kubernetes: programs, units, kinds of objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from continuum import folders
from continuum.artifacts.catalogue import Wanted, identity
from continuum.artifacts.store import ArtifactStore
from continuum.errors import StepFailed
from continuum.events import Events
from continuum.images.container_runtime import SOCKET
from continuum.images.recipe import RUNTIME_FOLDER, InstallStep, Tree, fingerprint
from continuum.machine import Command, run_on_host
from continuum.software.managers.kubeedge.settings import (
    CLOUDCORE_FILE,
    EDGECORE_FILE,
    RUNTIME_SOCKET,
)
from continuum.software.managers.kubernetes.install import NODE_FILE, NODE_PROGRAM, program_tree
from continuum.software.managers.kubernetes.kubeadm import ADMIN

EDGE_PROGRAM = f"{RUNTIME_FOLDER}/continuum_runtime/edge_node.py"

_KINDS_FILE = "/etc/kubeedge/kinds.yaml"
_BOOTSTRAP = "/etc/kubeedge/bootstrap-edgecore.conf"
_CERTIFICATE = "/etc/kubeedge/certs/server.key"

# It goes with the control plane: whenever that machine's kubelet is started. It waits there until
# the API server answers, so that it comes up while the rest of the cluster does. The only one of its
# kind need not wait up to 9 random seconds for others: with a fixed seed it waits 1 s.
_CLOUDCORE = f"""\
[Unit]
Description=KubeEdge in the cloud
After=kubelet.service
ConditionPathExists={CLOUDCORE_FILE}
StartLimitIntervalSec=0

[Service]
Environment=GODEBUG=randautoseed=0
ExecStartPre=/usr/bin/python3 {EDGE_PROGRAM} await-control-plane
ExecStartPre=/usr/local/bin/kubectl --kubeconfig={ADMIN} apply --validate=false \
--filename={_KINDS_FILE}
ExecStart=/usr/local/bin/cloudcore --config={CLOUDCORE_FILE}
TimeoutStartSec=300
Restart=always
RestartSec=500ms

[Install]
WantedBy=kubelet.service
"""

_EDGECORE = f"""\
[Unit]
Description=KubeEdge at the edge
Wants=containerd.service
Requires=edge-runtime.socket
After=containerd.service edge-runtime.socket network-online.target
ConditionPathExists=|{_BOOTSTRAP}
ConditionPathExists=|{_CERTIFICATE}
StartLimitIntervalSec=0

[Service]
ExecStartPre=/sbin/sysctl --quiet --load=/etc/kubernetes/sysctl.conf
ExecStartPre=/usr/bin/python3 {NODE_PROGRAM} {NODE_FILE} /run/continuum/kubelet.environment
ExecStartPre=/usr/bin/systemctl --quiet stop edge-runtime.service
ExecStart=/usr/local/bin/edgecore --config={EDGECORE_FILE}
Restart=always
RestartSec=500ms

[Install]
WantedBy=multi-user.target
"""


# EdgeCore reaches the container runtime through this, which waits for the cloud; see EDGE_PROGRAM.
_RUNTIME_SOCKET = f"""\
[Unit]
Description=Way from EdgeCore to the container runtime

[Socket]
ListenStream={RUNTIME_SOCKET}
SocketMode=0600
"""

_RUNTIME = f"""\
[Unit]
Description=Way from EdgeCore to the container runtime, once it is connected with the cloud
StartLimitIntervalSec=0

[Service]
ExecStartPre=/usr/bin/python3 {EDGE_PROGRAM} await-cloud {EDGECORE_FILE}
ExecStart=/lib/systemd/systemd-socket-proxyd {SOCKET}
"""

UNITS = {
    "/etc/systemd/system/cloudcore.service": _CLOUDCORE,
    "/etc/systemd/system/edgecore.service": _EDGECORE,
    "/etc/systemd/system/edge-runtime.service": _RUNTIME,
    "/etc/systemd/system/edge-runtime.socket": _RUNTIME_SOCKET,
}
"""Texts of the units by their paths."""


def version() -> str:
    """The version of KubeEdge, as `v1.20.0`: the tested one."""
    return ArtifactStore(Events()).version("kubeedge")


def steps() -> tuple[InstallStep, ...]:
    """For every machine of the cluster; each becomes what its own files say."""
    cloudcore, edgecore, keadm = (
        Wanted(name, version()) for name in ("cloudcore", "edgecore", "keadm")
    )
    programs = program_tree("kubeedge", [cloudcore, edgecore], UNITS, images_too=[keadm])
    return (programs, kinds_tree(keadm))


def kinds_tree(keadm: Wanted) -> Tree:
    """The kinds of objects that CloudCore brings into a cluster, as its installer has them in it."""

    def prepare(events: Events) -> None:
        ArtifactStore(events).fetch_all([keadm])

    def write(root: Path, progress: Callable[[str], None]) -> None:
        progress("kubeedge: kinds of objects")
        (installer,) = ArtifactStore(Events()).fetch_all([keadm])
        text = _manifests(installer.path)
        folders.write_file(root / _KINDS_FILE.lstrip("/"), kinds_of(text))

    return Tree("kubeedge-kinds", fingerprint(identity(keadm), _KINDS_FILE), write, prepare)


def _manifests(installer: Path) -> str:
    """What the installer would put into a cluster; it asks nobody for it."""
    arguments = ("manifest", "generate", "--advertise-address=127.0.0.1", "--skip-crds=false")
    installer.chmod(0o755)
    shown = run_on_host(Command((str(installer), *arguments), timeout=60)).check(
        "KubeEdge's installer does not tell its kinds of objects"
    )
    return shown.text


def kinds_of(manifests: str) -> str:
    """The definitions of kinds among manifests in YAML, in a fixed order.

    Raises:
        StepFailed: there are none.
    """
    documents = sorted(
        document.strip() + "\n"
        for document in manifests.split("\n---\n")
        if "\nkind: CustomResourceDefinition\n" in f"\n{document}\n"
    )
    if not documents:
        raise StepFailed("KubeEdge's installer tells no kinds of objects", output=manifests[-2000:])
    return "---\n".join(documents)
