"""Where a cluster's figures are, and who may read them. Pure functions.

The control plane's programs but for the API server listen on their machine alone, which is the one
that observes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from continuum.software.contract import MetricsTarget

if TYPE_CHECKING:
    from continuum.infrastructure.plan import MachineSpec

ACCOUNT = "continuum-observability"
NAMESPACE = "kube-system"

_HERE = "127.0.0.1"


def targets(nodes: Sequence[MachineSpec], control: MachineSpec) -> tuple[MetricsTarget, ...]:
    """What is asked: `nodes` are those with a kubelet of their own."""
    kubelets = [
        MetricsTarget(job, spec.name, spec.address, 10250, path, "https", token=True)
        for spec in nodes
        for job, path in (("kubelet", "/metrics"), ("cadvisor", "/metrics/cadvisor"))
    ]
    plane = [
        MetricsTarget("kubernetes", control.name, address, port, path, "https", token=True)
        for address, port, path in (
            (control.address, 6443, "/metrics"),
            (_HERE, 10257, "/metrics"),
            (_HERE, 10259, "/metrics"),
            # What pods ask for, by name: the scheduler knows them all.
            (_HERE, 10259, "/metrics/resources"),
        )
    ]
    etcd = MetricsTarget("kubernetes", control.name, _HERE, 2381)
    return (*kubelets, *plane, etcd)


def rights() -> dict[str, Any]:
    """A list of objects for `kubectl apply`: an account that may read figures, and nothing else."""
    about = {"name": ACCOUNT, "labels": {"app.kubernetes.io/managed-by": "continuum"}}
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {**about, "namespace": NAMESPACE},
            },
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRole",
                "metadata": about,
                "rules": [
                    {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
                    {
                        "nonResourceURLs": ["/metrics", "/metrics/resources"],
                        "verbs": ["get"],
                    },
                ],
            },
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": about,
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ACCOUNT},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}],
            },
        ],
    }
