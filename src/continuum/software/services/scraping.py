"""What Prometheus is told to collect, as its own configuration. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuum.infrastructure.plan import MachineSpec
    from continuum.software.contract import MetricsTarget

PROMETHEUS_PORT = 9090

INTERVAL = 5
"""Seconds between two looks at each target."""
TIMEOUT = 4
"""Seconds in which a target must answer."""

MACHINES = "machines"
BROKER = "broker"
APPLICATION = "application"
ITSELF = "prometheus"

DROPPED = "go_.*|promhttp_.*|node_scrape_.*|node_textfile_.*|.*_created"
"""What those who measure tell of themselves, and nobody asks for."""

KEPT = {
    "kubelet": (
        "kubelet_running_pods|kubelet_running_containers|kubelet_started_pods_total"
        "|kubelet_pod_start_duration_seconds_.*|kubelet_runtime_operations_total"
        "|kubelet_runtime_operations_duration_seconds_(sum|count)"
    ),
    "cadvisor": (
        "container_cpu_usage_seconds_total|container_cpu_cfs_throttled_seconds_total"
        "|container_memory_working_set_bytes|container_network_(receive|transmit)_bytes_total"
    ),
    "kubernetes": (
        "apiserver_request_total|apiserver_request_duration_seconds_(sum|count)"
        "|apiserver_current_inflight_requests|apiserver_storage_objects"
        "|etcd_mvcc_db_total_size_in_bytes|etcd_disk_wal_fsync_duration_seconds_(sum|count)"
        "|scheduler_pending_pods|scheduler_schedule_attempts_total"
        "|scheduler_scheduling_attempt_duration_seconds_(sum|count)|workqueue_depth|kube_.*"
    ),
}
"""Of jobs with thousands of series: those that a person looks at."""


def configuration(
    machines: Mapping[str, MachineSpec],
    targets: Sequence[MetricsTarget],
    *,
    token_file: str,
    target_files: str,
) -> dict[str, Any]:
    """Prometheus' configuration; JSON of it is the YAML that it reads.

    Args:
        machines: all machines by name.
        targets: what is there as long as the machines are.
        token_file: holds what opens targets that ask for a token.
        target_files: pattern of files that name targets which come and go, as a run's.
    """
    groups: dict[tuple[str, str, str, bool], list[MetricsTarget]] = {}
    for target in targets:
        key = (target.job, target.scheme, target.path, target.token)
        groups.setdefault(key, []).append(target)
    return {
        "global": {"scrape_interval": f"{INTERVAL}s", "scrape_timeout": f"{TIMEOUT}s"},
        "scrape_configs": [
            *(
                _job(job, scheme, path, token_file if token else "")
                | {"static_configs": [_static(each, machines) for each in members]}
                for (job, scheme, path, token), members in groups.items()
            ),
            _job(APPLICATION, "http", "/metrics", "")
            | {
                "job_name": APPLICATION,
                "file_sd_configs": [{"files": [target_files], "refresh_interval": "10s"}],
            },
        ],
    }


def _job(job: str, scheme: str, path: str, token_file: str) -> dict[str, Any]:
    kept = KEPT.get(job)
    rule = ({"action": "keep", "regex": kept} if kept else {"action": "drop", "regex": DROPPED}) | {
        "source_labels": ["__name__"]
    }
    found: dict[str, Any] = {
        # A job of Prometheus' has one scheme and one path: what is asked in two ways has two names.
        "job_name": f"{job} {scheme}:{path}",
        "scheme": scheme,
        "metrics_path": path,
        "metric_relabel_configs": [rule],
    }
    if scheme == "https":
        # Kubelets sign their certificates themselves.
        found["tls_config"] = {"insecure_skip_verify": True}
    if token_file:
        found["authorization"] = {"credentials_file": token_file}
    return found


def _static(target: MetricsTarget, machines: Mapping[str, MachineSpec]) -> dict[str, Any]:
    return {
        "targets": [f"{target.address}:{target.port}"],
        "labels": labels(target.job, machines[target.machine]),
    }


def labels(job: str, machine: MachineSpec) -> dict[str, str]:
    """What every series of a target is known by."""
    return {"job": job, "machine": machine.name, "tier": machine.tier}


def files_of_targets(
    processes: Iterable[tuple[str, MachineSpec, int]],
) -> list[dict[str, Any]]:
    """Content of a file of targets: (name, machine, port) of each process that tells of itself."""
    return [
        {
            "targets": [f"{machine.address}:{port}"],
            "labels": {**labels(APPLICATION, machine), "process": name},
        }
        for name, machine, port in processes
    ]
