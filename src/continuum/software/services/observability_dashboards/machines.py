"""The machines one by one: what each takes, and what it may take."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from continuum.software.services.observability_dashboards import parts
from continuum.software.services.observability_dashboards.parts import OVER, Page

_CHOSEN = '{machine=~"$machine"}'
_HOST = "For machines that are containers these are the figures of the host that carries them."


def dashboard() -> Dashboard:
    """Processor, memory, network, disks, and what the kernel beneath tells."""
    page = Page("machines", "Machines", "What each machine takes, and what it may take.")
    page.dashboard.with_variable(
        parts.choice("machine", "Machine", 'up{job="machines"}', "machine")
    )
    page.plot(
        "Processor, of what it may use",
        parts.SHARE,
        {"{{machine}}": parts.cpu_share(_CHOSEN)},
        top=1,
    )
    page.plot(
        "Cores",
        parts.NUMBER,
        {
            "{{machine}}": parts.cores_in_use(_CHOSEN),
            "{{machine}}, limit": f"sum by (machine) (continuum_machine_cores{_CHOSEN})",
        },
    )
    page.plot(
        "Memory, of what it may use",
        parts.SHARE,
        {"{{machine}}": parts.memory_share(_CHOSEN)},
        top=1,
    )
    page.plot(
        "Memory",
        parts.BYTES,
        {
            "{{machine}}": f"sum by (machine) (continuum_machine_memory_bytes{_CHOSEN})",
            "{{machine}}, limit": f"sum by (machine) (continuum_machine_memory_limit_bytes{_CHOSEN})",
        },
    )
    page.row("Network")
    page.plot("Sent", parts.BYTES_PER_SECOND, {"{{machine}}": parts.network("transmit", _CHOSEN)})
    page.plot(
        "Received", parts.BYTES_PER_SECOND, {"{{machine}}": parts.network("receive", _CHOSEN)}
    )
    page.plot(
        "Packets dropped or in error",
        parts.NUMBER,
        {
            f"{{{{machine}}}}, {what}": "sum by (machine) "
            f'(rate(node_network_{what}_total{{device!="lo",machine=~"$machine"}}{OVER}))'
            for what in ("receive_drop", "transmit_drop", "receive_errs", "transmit_errs")
        },
        about="Per second, by the machine's own interfaces.",
    )
    page.plot(
        "Load",
        parts.NUMBER,
        {"{{machine}}": f"sum by (machine) (node_load1{_CHOSEN})"},
        about=f"Processes that run or want to, over the last minute. {_HOST}",
    )
    page.row("Disks, and the kernel beneath")
    page.plot(
        "Read and written",
        parts.BYTES_PER_SECOND,
        {
            f"{{{{machine}}}}, {what}": "sum by (machine) "
            f"(rate(node_disk_{what}_bytes_total{_CHOSEN}{OVER}))"
            for what in ("read", "written")
        },
        about=_HOST,
    )
    page.plot(
        "Processor beneath, busy",
        parts.SHARE,
        {
            "{{machine}}": "1 - avg by (machine) "
            f'(rate(node_cpu_seconds_total{{mode="idle",machine=~"$machine"}}{OVER}))'
        },
        about=_HOST,
        top=1,
    )
    page.plot(
        "Memory beneath, free",
        parts.BYTES,
        {"{{machine}}": f"sum by (machine) (node_memory_MemAvailable_bytes{_CHOSEN})"},
        about=_HOST,
    )
    page.plot(
        "Seconds that Prometheus waits for an answer",
        parts.SECONDS,
        {"{{machine}}, {{job}}": f"max by (machine, job) (scrape_duration_seconds{_CHOSEN})"},
        about="What it costs a machine to be asked.",
    )
    return page.dashboard
