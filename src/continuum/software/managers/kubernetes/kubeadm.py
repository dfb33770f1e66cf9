"""What kubeadm and kube-proxy are told, as their own configuration documents. Pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from continuum.images.container_runtime import SOCKET
from continuum.images.containers import REPOSITORY
from continuum.software.execution_models.process import QUOTA_PERIOD_MILLISECONDS
from continuum.software.managers.kubernetes.network import BRIDGE

RUNTIME = f"unix://{SOCKET}"

ADMIN = "/etc/kubernetes/admin.conf"
"""The administrator's kubeconfig on the control machine."""

MARK = "/etc/kubernetes/continuum-initialised"
"""A file that is there when the control plane is whole."""

PODS_LIMIT = 110
"""Pods on one machine: Kubernetes' own default."""

KEPT_FREE = 50 * 2**20
"""Bytes of a node's memory that the kubelet gives to no pod."""

IGNORED_CHECKS = ("CRI", "FileExisting-crictl", "Mem", "NumCPU", "Swap", "SystemVerification")
"""Preflight checks that ask for a host of its own; the checks of machines are ours."""

_HURRY = {"kube-api-qps": "200", "kube-api-burst": "400"}
"""For the controllers, whose own limit of 20 requests a second makes their start take 4 s. What is
audited, to be measured, keeps its own limit."""

_OLD_FORMAT = (1, 31)
"""Before this version kubeadm reads v1beta3, whose arguments are no lists."""

AUDIT_LOG = "/var/log/kubernetes/audit.log"
AUDIT_POLICY = "/etc/kubernetes/audit-policy.json"

_PATIENCE = "/etc/kubernetes/patience"
"""Folder of patches by which the control plane's pods have time to answer, on slow machines."""


def init_documents(  # noqa: PLR0913  one parameter for each thing that an experiment decides
    *,
    version: str,
    etcd_version: str,
    machine: str,
    address: str,
    names: tuple[str, ...],
    services: str,
    name_server: str,
    alone: bool,
    audit: bool,
    internet: bool,
    slow: bool = False,
) -> list[dict[str, Any]]:
    """For `kubeadm init`, as (InitConfiguration, ClusterConfiguration, KubeletConfiguration).

    Args:
        version: of Kubernetes, as `v1.34.4`.
        etcd_version: as `v3.6.8`.
        machine: name of the control plane's.
        address: of that machine.
        names: more names and addresses that its certificate is for.
        services: the block of services' addresses.
        name_server: the address of the cluster's name server.
        alone: there is no other machine, so that pods run beside the control plane.
        internet: pods ask for names of other networks where their machine does.
        slow: whether machines may be: kubeadm then waits longer than it does by itself.
        audit: keep a log of requests at `AUDIT_LOG`, by the policy at `AUDIT_POLICY`.
    """
    api_server: dict[str, Any] = {"certSANs": list(names)}
    if audit:
        api_server |= {
            "extraArgs": _arguments(
                version,
                {
                    "audit-log-path": AUDIT_LOG,
                    "audit-policy-file": AUDIT_POLICY,
                    "audit-log-maxsize": "1024",
                },
            ),
            "extraVolumes": [
                _volume("audit-policy", AUDIT_POLICY, "File", read_only=True),
                _volume("audit-log", AUDIT_LOG.rpartition("/")[0], "DirectoryOrCreate"),
            ],
        }
    registration = _registration(version, machine, address)
    if alone:
        registration["taints"] = []
    return [
        {
            "apiVersion": _api(version),
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
            "nodeRegistration": registration,
            "skipPhases": ["addon", "show-join-command"],
            **_timeouts(version, slow=slow),
            **({"patches": {"directory": _PATIENCE}} if slow else {}),
        },
        {
            "apiVersion": _api(version),
            "kind": "ClusterConfiguration",
            "kubernetesVersion": version,
            "imageRepository": REPOSITORY,
            "networking": {"serviceSubnet": services, "dnsDomain": "cluster.local"},
            "apiServer": api_server,
            # There is one of each: it has nobody to wait for.
            "controllerManager": {
                "extraArgs": _arguments(
                    version, {"leader-elect": "false"} | ({} if audit else _HURRY)
                )
            },
            "scheduler": {"extraArgs": _arguments(version, {"leader-elect": "false"})},
            "etcd": {"local": {"imageTag": etcd_version}},
            # Elliptic curves: made in milliseconds, where RSA keys take seconds of a small machine.
            **({} if is_old(version) else {"encryptionAlgorithm": "ECDSA-P256"}),
        },
        _kubelet(name_server, internet=internet),
    ]


def as_text(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents in one text, as kubeadm reads them: JSON is YAML."""
    return "---\n".join(json.dumps(each, indent=1) + "\n" for each in documents)


def patience() -> dict[str, str]:
    """Patches for kubeadm, by path: the kubelet ends a pod that did not answer for ten minutes.

    By itself it does so after 80 s; what is only slow would then begin again, and be slower.
    """
    parts = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return {
        f"{_PATIENCE}/{part}+strategic.json": json.dumps(
            {"spec": {"containers": [{"name": part, "livenessProbe": {"failureThreshold": 60}}]}}
        )
        + "\n"
        for part in parts
    }


def join_document(
    *, version: str, machine: str, address: str, discovery: Mapping[str, Any], slow: bool = False
) -> dict[str, Any]:
    """For `kubeadm join`; `discovery` is filled in when the control plane is there.

    On `slow` machines kubeadm waits longer than it does by itself.
    """
    return {
        "apiVersion": _api(version),
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": dict(discovery)},
        **_timeouts(version, slow=slow),
        "nodeRegistration": _registration(version, machine, address),
    }


def proxy_document(version: str) -> dict[str, Any]:
    """For kube-proxy, which leaves the host's tables of connections as they are.

    By nftables where it is on by default, from 1.31. By iptables, which is written into nftables on
    today's systems, whatever connects at the moment of a change to any service may be refused.
    """
    old = is_old(version)
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kubelet.conf"},
        "mode": "iptables" if old else "nftables",
        "detectLocalMode": "BridgeInterface",
        "detectLocal": {"bridgeInterface": BRIDGE},
        **({"iptables": {"localhostNodePorts": False}} if old else {}),
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
        "oomScoreAdj": 0,
    }


def kubelet_settings(*, internet: bool) -> dict[str, Any]:
    """What every kubelet is told, also the one in EdgeCore."""
    return {
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "maxPods": PODS_LIMIT,
        "resolvConf": "/etc/resolv.conf" if internet else "",
        # The first: a container's kernel settings are the host's.
        "featureGates": {"KubeletInUserNamespace": True, "CustomCPUCFSQuotaPeriod": True},
        # As for workers that are processes: who has used his share waits no tenth of a second.
        "cpuCFSQuotaPeriod": f"{QUOTA_PERIOD_MILLISECONDS}ms",
        # The host's memory and disk are shared; a machine's own limit ends what takes too much.
        "evictionHard": {
            "memory.available": f"{KEPT_FREE // 2**20}Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
    }


def _kubelet(name_server: str, *, internet: bool) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": [name_server],
        "clusterDomain": "cluster.local",
        "rotateCertificates": False,
        **kubelet_settings(internet=internet),
    }


def _registration(version: str, machine: str, address: str) -> dict[str, Any]:
    return {
        "name": machine,
        "criSocket": RUNTIME,
        "imagePullPolicy": "Never",
        "ignorePreflightErrors": list(IGNORED_CHECKS),
        "kubeletExtraArgs": _arguments(version, {"node-ip": address}),
    }


def _timeouts(version: str, *, slow: bool) -> dict[str, Any]:
    """Shorter than kubeadm's 4 to 5 minutes: what is not there by then does not come.

    On `slow` machines longer: an emulated control plane has taken more than 4 minutes.
    """
    if is_old(version):
        return {}
    short, long = ("10m0s", "10m0s") if slow else ("1m0s", "1m30s")
    return {
        "timeouts": {
            "controlPlaneComponentHealthCheck": long,
            "discovery": short,
            "kubeletHealthCheck": short,
            "tlsBootstrap": short,
        }
    }


def _arguments(version: str, arguments: Mapping[str, str]) -> object:
    if is_old(version):
        return dict(arguments)
    return [{"name": name, "value": value} for name, value in arguments.items()]


def _volume(name: str, path: str, kind: str, *, read_only: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "hostPath": path,
        "mountPath": path,
        "pathType": kind,
        "readOnly": read_only,
    }


def _api(version: str) -> str:
    return f"kubeadm.k8s.io/{'v1beta3' if is_old(version) else 'v1beta4'}"


def is_old(version: str) -> bool:
    """Whether kubeadm and kubectl are of before 1.31."""
    major, minor, *_ = version.removeprefix("v").split(".")
    return (int(major), int(minor)) < _OLD_FORMAT
