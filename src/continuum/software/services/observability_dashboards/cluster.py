"""The cluster: Kubernetes' control plane, its nodes and pods, and KubeEdge where it is."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from continuum.software.services.observability_dashboards import parts
from continuum.software.services.observability_dashboards.parts import OVER, Page

MANAGERS = ("kubernetes", "kubeedge")

_CHOSEN = '{machine=~"$machine"}'
_POD = '{container!="",pod!=""}'


def dashboard(*, edge: bool) -> Dashboard:
    """Pods, nodes and control plane; `edge` for KubeEdge's own part."""
    page = Page("cluster", "Kubernetes", "Pods, nodes and the control plane.")
    page.dashboard.with_variable(parts.choice("machine", "Machine", 'up{job="kubelet"}', "machine"))
    page.row("Pods")
    page.plot(
        "Running",
        parts.NUMBER,
        {"{{machine}}": f"sum by (machine) (kubelet_running_pods{_CHOSEN})"},
    )
    page.plot(
        "Mean time to start",
        parts.SECONDS,
        {"{{machine}}": _mean_of_all("kubelet_pod_start_duration_seconds", "machine", _CHOSEN)},
        about="Of all pods so far: from when the kubelet first sees a pod until it runs.",
    )
    page.plot(
        "Cores",
        parts.NUMBER,
        {
            "{{namespace}}/{{pod}}": "sum by (namespace, pod) "
            f"(rate(container_cpu_usage_seconds_total{_POD}{OVER}))"
        },
    )
    page.plot(
        "Memory",
        parts.BYTES,
        {
            "{{namespace}}/{{pod}}": f"sum by (namespace, pod) (container_memory_working_set_bytes{_POD})"
        },
    )
    page.row("Control plane")
    page.plot(
        "Requests to the API server",
        parts.PER_SECOND,
        {"{{verb}}": f"sum by (verb) (rate(apiserver_request_total{OVER}))"},
    )
    page.plot(
        "Mean time to answer them",
        parts.SECONDS,
        {
            "{{verb}}": _mean(
                "apiserver_request_duration_seconds", "verb", '{verb!~"WATCH|CONNECT"}'
            )
        },
    )
    page.plot(
        "Requests under way",
        parts.NUMBER,
        {
            "{{request_kind}}": "sum by (request_kind) (apiserver_current_inflight_requests)",
        },
    )
    page.plot(
        "Objects",
        parts.NUMBER,
        {"{{resource}}": "topk(10, max by (resource) (apiserver_storage_objects))"},
        about="The ten kinds of which there are most.",
    )
    page.row("Nodes")
    page.plot(
        "Work for the container runtime",
        parts.PER_SECOND,
        {
            "{{machine}}": "sum by (machine) "
            f"(rate(kubelet_runtime_operations_total{_CHOSEN}{OVER}))"
        },
    )
    page.plot(
        "Mean time of it",
        parts.SECONDS,
        {"{{machine}}": _mean("kubelet_runtime_operations_duration_seconds", "machine", _CHOSEN)},
    )
    if edge:
        page.row("KubeEdge")
        page.plot(
            "CloudCore and EdgeCore that answer",
            parts.NUMBER,
            {"{{machine}}": 'sum by (machine) (up{job="kubeedge"})'},
        )
    return page.dashboard


def _mean_of_all(histogram: str, label: str, chosen: str) -> str:
    """Mean of all that was ever observed, by a label: for what happens too seldom for a rate."""
    return (
        f"sum by ({label}) ({histogram}_sum{chosen})"
        f" / (sum by ({label}) ({histogram}_count{chosen}) > 0)"
    )


def _mean(histogram: str, label: str, chosen: str) -> str:
    """Mean of what was observed lately, by a label."""
    return (
        f"sum by ({label}) (rate({histogram}_sum{chosen}{OVER}))"
        f" / sum by ({label}) (rate({histogram}_count{chosen}{OVER}))"
    )
