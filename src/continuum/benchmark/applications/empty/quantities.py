"""What is computed from each pod's times: the whole, and each step from the one before."""

from __future__ import annotations

from continuum.benchmark.statistics import Quantity

QUANTITIES = (
    Quantity("latency_ms", "ms", "ready_ns", "intended_ns", "asked to ready", whole=True),
    Quantity("create_ms", "ms", "created_ns", "intended_ns", "asked to created"),
    Quantity("schedule_ms", "ms", "scheduled_ns", "created_ns", "created to scheduled"),
    Quantity("sandbox_ms", "ms", "sandbox_ns", "scheduled_ns", "scheduled to sandbox"),
    Quantity("start_ms", "ms", "started_ns", "sandbox_ns", "sandbox to started"),
    Quantity("ready_ms", "ms", "ready_ns", "started_ns", "started to ready"),
)
