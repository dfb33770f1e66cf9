"""Kubernetes objects that both distributions are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from continuum.software.serverless.names import (
    FUNCTIONS,
    GATEWAY,
    NAMESPACE,
    NODE_PORT,
    PORT,
    SECRET,
)

_RIGHTS = "rbac.authorization.k8s.io"

PASSWORD_MOUNT = {"name": "auth", "mountPath": "/var/secrets", "readOnly": True}
"""Where a container of `deployment` finds user and password."""


def namespaces() -> list[dict[str, Any]]:
    """OpenFaaS' own, and that of its functions."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "annotations": {"openfaas": "1"}},
        }
        for name in (NAMESPACE, FUNCTIONS)
    ]


def rule(groups: list[str], kinds: list[str]) -> dict[str, Any]:
    """The right to all that can be done with these kinds of objects."""
    verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
    return {"apiGroups": groups, "resources": kinds, "verbs": verbs}


def rights(name: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An account that has these rights in the namespace of the functions, and nowhere else."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE},
        },
        {
            "apiVersion": f"{_RIGHTS}/v1",
            "kind": "Role",
            "metadata": {"name": name, "namespace": FUNCTIONS},
            "rules": rules,
        },
        {
            "apiVersion": f"{_RIGHTS}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": FUNCTIONS},
            "roleRef": {"apiGroup": _RIGHTS, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        },
    ]


def deployment(
    name: str, containers: list[dict[str, Any]], *, folders: tuple[str, ...] = ()
) -> dict[str, Any]:
    """One pod of these containers on the control machine: workers have their own work.

    `folders` are names of volumes that are empty.
    """
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            # Two gateways would each count but what came their way.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "enableServiceLinks": False,
                    "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
                    "tolerations": [{"operator": "Exists"}],
                    "containers": containers,
                    "volumes": [
                        {"name": "auth", "secret": {"secretName": SECRET}},
                        *({"name": folder, "emptyDir": {}} for folder in folders),
                    ],
                },
            },
        },
    }


def gateway_service() -> dict[str, Any]:
    """The gateway, in the cluster and on a port of its machines."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY, "namespace": NAMESPACE, "labels": {"app": GATEWAY}},
        "spec": {
            "type": "NodePort",
            "selector": {"app": GATEWAY},
            "ports": [
                {"name": "http", "port": PORT, "targetPort": PORT, "nodePort": NODE_PORT},
            ],
        },
    }


def environment(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Variables of a container."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def probe(port: int, path: str) -> dict[str, Any]:
    """Asks every second whether a container is ready."""
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": 1, "timeoutSeconds": 5}
