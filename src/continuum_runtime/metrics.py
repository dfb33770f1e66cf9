"""Figures that workers and endpoints tell of themselves, in Prometheus' format.

Nothing is computed until Prometheus asks: an observation is two additions, about a microsecond.
"""

from __future__ import annotations

import sys
import threading

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from continuum_runtime.metrics_pages import server

LATENCIES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0),
)
"""Upper bounds in seconds: from one photo's computation to the time after which it counts as lost."""


class WorkerMetrics:
    """Answers by status, time to process each, and what waits now."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "continuum_answers", "Answers given.", ["status"], registry=self.registry
        )
        self._ok, self._error = (self._answers.labels(status) for status in ("ok", "error"))
        self._processing = Histogram(
            "continuum_processing_seconds",
            "Time to process one request.",
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.queue = Gauge(
            "continuum_queue_requests",
            "Requests that wait to be processed.",
            registry=self.registry,
        )

    def answered(self, *, ok: bool, processing_ns: int) -> None:
        """Count one answer."""
        (self._ok if ok else self._error).inc()
        self._processing.observe(processing_ns / 1e9)


class EndpointMetrics:
    """Requests that have ended by status, their latency, and what waits for an answer."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        requests = Counter(
            "continuum_requests", "Requests that have ended.", ["status"], registry=self.registry
        )
        self._requests = {
            status: requests.labels(status) for status in ("ok", "lost", "timeout", "error")
        }
        self._latency = Histogram(
            "continuum_request_latency_seconds",
            "From the time at which a request was due to its answer.",
            buckets=LATENCIES,
            registry=self.registry,
        )
        self.waiting = Gauge(
            "continuum_requests_waiting", "Requests without an answer yet.", registry=self.registry
        )

    def ended(self, status: str, latency_ns: int | None) -> None:
        """Count one request; its latency where it was answered in time."""
        self._requests[status].inc()
        if latency_ns is not None:
            self._latency.observe(latency_ns / 1e9)


def serve(registry: CollectorRegistry, port: int) -> None:
    """Answer at `/metrics` in a thread of its own, as long as the process lives.

    A port that is taken costs the figures, not the run: that is told on standard error.
    """
    try:
        listening = server("", port, {"/metrics": registry})
    except OSError as error:
        print(f"no figures on port {port}: {error}", file=sys.stderr, flush=True)
        return
    threading.Thread(target=listening.serve_forever, daemon=True).start()
