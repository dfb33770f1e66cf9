"""The application: what endpoints ask, what workers answer, and what lies between them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from continuum.software.services.observability_dashboards import parts
from continuum.software.services.observability_dashboards.parts import OVER, Page

_CHOSEN = '{machine=~"$machine"}'
_LATENCY = "continuum_request_latency_seconds"
_PROCESSING = "continuum_processing_seconds"


def dashboard() -> Dashboard:
    """Endpoints, workers, brokers."""
    page = Page("application", "Application", "Requests from endpoint to worker and back.")
    page.dashboard.with_variable(
        parts.choice("machine", "Machine", 'up{job="application"}', "machine")
    )
    page.row("Endpoints")
    page.plot(
        "Requests by how they ended",
        parts.PER_SECOND,
        {"{{status}}": f"sum by (status) (rate(continuum_requests_total{_CHOSEN}{OVER}))"},
    )
    page.plot("Latency", parts.SECONDS, parts.quantiles(_LATENCY, _CHOSEN))
    page.plot(
        "Mean latency",
        parts.SECONDS,
        {
            "{{machine}}": f"sum by (machine) (rate({_LATENCY}_sum{_CHOSEN}{OVER}))"
            f" / sum by (machine) (rate({_LATENCY}_count{_CHOSEN}{OVER}))"
        },
    )
    page.plot(
        "Waiting for an answer",
        parts.NUMBER,
        {"{{machine}}": f"sum by (machine) (continuum_requests_waiting{_CHOSEN})"},
    )
    page.row("Workers")
    page.plot(
        "Answers",
        parts.PER_SECOND,
        {
            "{{machine}}, {{status}}": "sum by (machine, status) "
            f"(rate(continuum_answers_total{_CHOSEN}{OVER}))"
        },
    )
    page.plot("Time to process", parts.SECONDS, parts.quantiles(_PROCESSING, _CHOSEN))
    page.plot(
        "Time in processing",
        parts.SHARE,
        {"{{machine}}": f"sum by (machine) (rate({_PROCESSING}_sum{_CHOSEN}{OVER}))"},
        about="Of one second; near the number of workers on a machine, requests begin to wait.",
        top=1,
    )
    page.plot(
        "Waiting to be processed",
        parts.NUMBER,
        {"{{machine}}": f"sum by (machine) (continuum_queue_requests{_CHOSEN})"},
    )
    page.row("Brokers")
    page.plot(
        "Messages",
        parts.PER_SECOND,
        {
            f"{{{{machine}}}}, {what}": "sum by (machine) "
            f"(rate(mosquitto_publish_messages_{what}_total{OVER}))"
            for what in ("received", "sent", "dropped")
        },
        about="Published by clients, handed on to them, and thrown away.",
    )
    page.plot(
        "Clients",
        parts.NUMBER,
        {"{{machine}}": "sum by (machine) (mosquitto_clients_connected)"},
    )
    return page.dashboard
