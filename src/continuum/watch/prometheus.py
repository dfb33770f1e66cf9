"""Figures from Prometheus, where an experiment has it: what is asked, and what the answers say. Pure.

It is asked on its own machine, so that no other machine is disturbed by who watches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from continuum.software.services.scraping import INTERVAL, PROMETHEUS_PORT
from continuum.watch.figures import WINDOW_SECONDS
from continuum.watch.snapshot import Point, Requests, Usage

if TYPE_CHECKING:
    from continuum.live import LiveRun

RATE_SECONDS = 15
LATENCY_SECONDS = 30

_LATENCY = "continuum_request_latency_seconds_bucket"
_REQUESTS = "continuum_requests_total"
_OK = f'{_REQUESTS}{{status="ok"}}'
_NOT_OK = f'{_REQUESTS}{{status!="ok"}}'


@dataclass(frozen=True)
class Figures:
    """What Prometheus says; `requests` is None where the application does not tell of itself."""

    usage: Mapping[str, Usage]
    requests: Requests | None
    timeline: tuple[Point, ...]


def _quantile(share: float, seconds: int) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({_LATENCY}[{seconds}s])))"


RANGES = {
    "cores": f"rate(continuum_machine_cpu_seconds_total[{RATE_SECONDS}s])",
    "per_second": f"sum(rate({_OK}[{RATE_SECONDS}s]))",
    "failed": f"sum(rate({_NOT_OK}[{RATE_SECONDS}s])) * {INTERVAL}",
    "median": _quantile(0.5, RATE_SECONDS),
    "p95": _quantile(0.95, RATE_SECONDS),
}
"""What is asked over the last minutes."""


def instants(age: float) -> dict[str, str]:
    """What is asked for now; `age` is that of the run, in seconds."""
    return {
        "memory": "continuum_machine_memory_bytes",
        # Each endpoint's process has series of its own, and the last value of those that ended counts.
        "ended": f"sum by (status) (max_over_time({_REQUESTS}[{max(INTERVAL, math.ceil(age))}s]))",
        "waiting": "sum(continuum_requests_waiting)",
        "median_now": _quantile(0.5, LATENCY_SECONDS),
        "p95_now": _quantile(0.95, LATENCY_SECONDS),
    }


def addresses(host: str, now: float, age: float) -> list[str]:
    """Pages to be got, in the order in which `figures` takes their answers."""
    root = f"http://{host}:{PROMETHEUS_PORT}/api/v1"
    end = math.floor(now / INTERVAL) * INTERVAL
    window = {"start": end - WINDOW_SECONDS, "end": end, "step": INTERVAL}
    return [
        *(f"{root}/query_range?{urlencode({'query': each, **window})}" for each in RANGES.values()),
        *(
            f"{root}/query?{urlencode({'query': each, 'time': now})}"
            for each in instants(age).values()
        ),
    ]


def figures(answers: Sequence[Mapping[str, Any]], run: LiveRun) -> Figures | None:
    """What the answers say; None when Prometheus did not answer, or knows no machine."""
    names = [*RANGES, *instants(0)]
    if len(answers) != len(names) or any(each.get("status") != 200 for each in answers):
        return None
    try:
        told = {
            name: json.loads(answer["body"])["data"]["result"]
            for name, answer in zip(names, answers, strict=True)
        }
        usage = _usage(told["cores"], told["memory"])
        return Figures(usage, _requests(told, run), _timeline(told)) if usage else None
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _number(text: str) -> float | None:
    """A value as Prometheus writes it; None for what is no number."""
    value = float(text)
    return value if math.isfinite(value) else None


def _usage(cores: Sequence[Any], memory: Sequence[Any]) -> dict[str, Usage]:
    taken = {each["metric"]["machine"]: _number(each["value"][1]) for each in memory}
    found = {name: Usage(memory=value) for name, value in taken.items()}
    for each in cores:
        name = each["metric"]["machine"]
        values = [_number(text) for _, text in each["values"]]
        history = tuple(value for value in values if value is not None)
        found[name] = Usage(history[-1] if history else None, taken.get(name), history)
    return found


def _series(result: Sequence[Any]) -> dict[float, float | None]:
    """Value by time of the one series that there is."""
    return {float(at): _number(text) for at, text in result[0]["values"]} if result else {}


def _timeline(told: Mapping[str, Any]) -> tuple[Point, ...]:
    rate, failed = _series(told["per_second"]), _series(told["failed"])
    median, p95 = _series(told["median"]), _series(told["p95"])
    return tuple(
        Point(
            at=at,
            per_second=value or 0.0,
            median_ms=_milliseconds(median.get(at)),
            p95_ms=_milliseconds(p95.get(at)),
            failed=round(failed.get(at) or 0.0),
        )
        for at, value in sorted(rate.items())
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _requests(told: Mapping[str, Any], run: LiveRun) -> Requests | None:
    ended = {each["metric"]["status"]: int(float(each["value"][1])) for each in told["ended"]}
    if not ended:
        return None

    def now(name: str) -> float | None:
        return _number(told[name][0]["value"][1]) if told[name] else None

    first = [stream for stream in run.streams if stream.repetition == 1]
    counted = bool(first) and all(stream.counted for stream in first)
    planned = sum(run.planned)
    planned = planned or sum(each.warmup + each.requests for each in first) * run.repetitions
    waiting = now("waiting")
    rate = list(_series(told["per_second"]).values())
    return Requests(
        expected=planned if counted else None,
        answered=ended.get("ok", 0),
        lost=ended.get("lost", 0),
        timeout=ended.get("timeout", 0),
        error=ended.get("error", 0),
        warmup=None,
        waiting=None if waiting is None else round(waiting),
        per_second=rate[-1] if rate else None,
        median_ms=_milliseconds(now("median_now")),
        p95_ms=_milliseconds(now("p95_now")),
        rate_seconds=RATE_SECONDS,
        latency_seconds=LATENCY_SECONDS,
    )
