"""What every cluster of ours runs beside its control plane: names, and the right to see services.

A name server of one replica, which also knows the machines' names, and asks nobody else unless the
experiment has a way out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

_NAME = "coredns"
_SYSTEM = "kube-system"
_COREFILE = "continuum/corefile"
"""The annotation that tells which configuration a pod was started with."""


def manifests(
    *, image: str, name_server: str, machines: Mapping[str, str], internet: bool
) -> dict[str, Any]:
    """A list of objects for `kubectl apply`.

    Args:
        image: CoreDNS's.
        name_server: its address.
        machines: addresses by names.
        internet: whether names of other networks are asked for where the machine asks.
    """
    configuration = corefile(machines, internet=internet)
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            _proxy_rights(),
            *_name_server_rights(),
            _configuration(configuration),
            _deployment(image, configuration, internet=internet),
            _service(name_server),
        ],
    }


def corefile(machines: Mapping[str, str], *, internet: bool) -> str:
    """CoreDNS's configuration."""
    hosts = "".join(f"        {address} {name}\n" for name, address in machines.items())
    forward = "    forward . /etc/resolv.conf\n" if internet else ""
    return (
        ".:53 {\n"
        "    errors\n"
        "    health {\n"
        "        lameduck 1s\n"
        "    }\n"
        "    ready\n"
        "    kubernetes cluster.local in-addr.arpa ip6.arpa {\n"
        "        pods insecure\n"
        "        fallthrough in-addr.arpa ip6.arpa\n"
        "        ttl 30\n"
        "    }\n"
        f"    hosts {{\n{hosts}        fallthrough\n    }}\n"
        f"{forward}"
        "    cache 30\n"
        "}\n"
    )


def is_name_server_up(deployment: Mapping[str, Any]) -> bool:
    """Whether it is the name server's deployment, and answers with what it was last told."""
    metadata, status = deployment["metadata"], deployment["status"]
    replicas = deployment["spec"]["replicas"]
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    return (
        metadata["name"] == _NAME
        and replicas > 0
        and status.get("observedGeneration") == metadata["generation"]
        and all(status.get(count) == replicas for count in counts)
    )


def _proxy_rights() -> dict[str, Any]:
    """kube-proxy is a unit on each machine, and comes as the machine's kubelet."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "continuum:node-proxier"},
        "roleRef": _cluster_role("system:node-proxier"),
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}
        ],
    }


def _name_server_rights() -> list[dict[str, Any]]:
    rules = [
        {
            "apiGroups": [""],
            "resources": ["endpoints", "services", "pods", "namespaces"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["list", "watch"],
        },
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(_NAME)},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"system:{_NAME}"},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"system:{_NAME}"},
            "roleRef": _cluster_role(f"system:{_NAME}"),
            "subjects": [{"kind": "ServiceAccount", "name": _NAME, "namespace": _SYSTEM}],
        },
    ]


def _configuration(content: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(_NAME),
        "data": {"Corefile": content},
    }


def _deployment(image: str, configuration: str, *, internet: bool) -> dict[str, Any]:
    labels = {"k8s-app": "kube-dns"}
    folder = "/etc/coredns"
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["-conf", f"{folder}/Corefile"],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "50m", "memory": "70Mi"}},
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
        ],
        "volumeMounts": [{"name": "config", "mountPath": folder, "readOnly": True}],
        "livenessProbe": _probe(8080, "/health", start=60, period=10),
        "readinessProbe": _probe(8181, "/ready", period=1),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**_metadata(_NAME), "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            # One after the other: the machine may have no room for two.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "template": {
                # A running one does not read its configuration again: another one is another pod.
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        _COREFILE: hashlib.sha256(configuration.encode()).hexdigest()[:16]
                    },
                },
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": _NAME,
                    # On the control machine: workers have their own work.
                    "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
                    "tolerations": [{"operator": "Exists"}],
                    "dnsPolicy": "Default" if internet else "None",
                    **({} if internet else {"dnsConfig": {"nameservers": ["127.0.0.1"]}}),
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {"name": _NAME}}],
                },
            },
        },
    }


def _service(name_server: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**_metadata("kube-dns"), "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "selector": {"k8s-app": "kube-dns"},
            "clusterIP": name_server,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }


def _probe(port: int, path: str, *, period: int, start: int = 0) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        # Nothing that the API server leaves out: kubectl would find a difference each time.
        **({"initialDelaySeconds": start} if start else {}),
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": 5,
    }


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": _SYSTEM}


def _cluster_role(name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
