"""The traffic of an experiment itself over its links, as far as its application says. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from continuum.infrastructure.links.check import Traffic

if TYPE_CHECKING:
    from continuum.benchmark.contract import Application
    from continuum.experiment.model import Experiment

SEGMENT = 1448
"""Bytes of a request in one full packet."""


def traffic(
    experiment: Experiment, application: Application
) -> dict[tuple[str, str], Traffic] | None:
    """By tiers, what one endpoint's machine sends; None when the application cannot say.

    Answers are taken to be no larger than requests. Other tiers send each other nothing of the
    experiment's own.
    """
    size = application.request_bytes()
    benchmark = experiment.benchmark
    if size is None or benchmark is None or not benchmark.endpoints:
        return None
    one = Traffic(
        packets=benchmark.frequency * math.ceil(size / SEGMENT),
        mbit=benchmark.frequency * size * 8e-6,
    )
    ends = (benchmark.endpoints, experiment.worker_tier)
    return {ends: one, ends[::-1]: one}
