"""Asks a real Prometheus what the dashboards ask it."""

from __future__ import annotations

import json
import math
import time
import urllib.parse
import urllib.request
from typing import Any

from continuum.software.services import scraping
from continuum.software.services.observability_dashboards import Query, queries


def asked(expression: str) -> str:
    """An expression as Grafana sends it, with everything chosen that can be."""
    # Grafana's own rule, for a page of a few minutes.
    span = f"{4 * scraping.INTERVAL}s"
    return expression.replace("$__rate_interval", span).replace("$machine", ".*")


def answer(server: str, expression: str, seconds: float) -> list[dict[str, Any]]:
    """Series of the last seconds."""
    now = time.time()
    parameters = {
        "query": expression,
        "start": now - seconds,
        "end": now,
        "step": scraping.INTERVAL,
    }
    address = f"{server}/api/v1/query_range?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(address, timeout=30) as told:  # noqa: S310  a tunnel of ours
        found: list[dict[str, Any]] = json.load(told)["data"]["result"]
    return found


def without_answer(server: str, manager: str, seconds: float) -> list[Query]:
    """The queries that gave no figure at all over the last seconds."""
    return [
        query
        for query in queries(manager)
        if not any(
            not math.isnan(float(value))
            for series in answer(server, asked(query.expression), seconds)
            for _, value in series["values"]
        )
    ]
