"""The first page: is it running, how does it go, and what is near its limit."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from continuum.software.services.observability_dashboards import parts
from continuum.software.services.observability_dashboards.parts import OVER, Page


def dashboard() -> Dashboard:
    """Requests, latency and the machines' use on one page."""
    page = Page("experiment", "Experiment", "The whole experiment at one look.")
    page.number(
        "Machines that answer", parts.NUMBER, 'count(count by (machine) (up{job="machines"} == 1))'
    )
    page.number(
        "Targets that answer",
        parts.SHARE,
        "avg(up)",
        about="Of all that Prometheus asks: machines, broker, application, cluster.",
    )
    page.number(
        "Requests per second", parts.PER_SECOND, f"sum(rate(continuum_requests_total{OVER}))"
    )
    page.number(
        "Median latency",
        parts.SECONDS,
        parts.quantiles("continuum_request_latency_seconds")["p50"],
        about="From the time at which a request was due to its answer.",
    )
    page.number("Waiting for an answer", parts.NUMBER, "sum(continuum_requests_waiting)")
    page.number("Waiting at workers", parts.NUMBER, "sum(continuum_queue_requests)")
    page.states(
        "Phases of the run",
        "{{phase}}, repetition {{repetition}}",
        "max by (run, repetition, phase) (continuum_run_phase)",
    )
    page.plot("Latency", parts.SECONDS, parts.quantiles("continuum_request_latency_seconds"))
    page.plot(
        "Requests",
        parts.PER_SECOND,
        {"{{status}}": f"sum by (status) (rate(continuum_requests_total{OVER}))"},
        about="Ended, by how they ended.",
    )
    page.plot("Processor", parts.SHARE, {"{{machine}}": parts.cpu_share()}, top=1)
    page.plot("Memory", parts.SHARE, {"{{machine}}": parts.memory_share()}, top=1)
    page.plot("Network, sent", parts.BYTES_PER_SECOND, {"{{machine}}": parts.network("transmit")})
    page.plot(
        "Waiting",
        parts.NUMBER,
        {
            "for an answer, {{machine}}": "sum by (machine) (continuum_requests_waiting)",
            "to be processed, {{machine}}": "sum by (machine) (continuum_queue_requests)",
        },
    )
    return page.dashboard
