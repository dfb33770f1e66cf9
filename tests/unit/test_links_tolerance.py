"""The smallest deviations that a link check must find, and how much probing that takes."""

from __future__ import annotations

import math

import pytest

from continuum.infrastructure.links.measurement import DELAY, JITTER, LOSS, RATE, STREAM
from continuum.infrastructure.links.tolerance import (
    DEFAULT,
    Tolerances,
    loss_probes,
    probing_seconds,
)
from continuum.infrastructure.plan import LinkSettings


@pytest.mark.parametrize(
    ("quantity", "asked", "bounds"),
    [
        (DELAY, 45.0, (40.5, 49.5)),
        (STREAM, 45.0, (40.5, 49.5)),
        (DELAY, 1.0, (0.7, 1.3)),
        (JITTER, 2.5, (2.0, 3.0)),
        (JITTER, 0.0, (-0.3, 0.3)),
        (RATE, 100.0, (95.0, 105.0)),
        (LOSS, 0.0, (-math.inf, 0.1)),
        (LOSS, 0.1, (0.05, 0.2)),
        (LOSS, 1.0, (0.5, 2.0)),
        (LOSS, 20.0, (10.0, 40.0)),
        # Of what arrives half is missing, or half as much again.
        (LOSS, 90.0, (80.0, 95.0)),
        (LOSS, 100.0, (99.9, math.inf)),
    ],
)
def test_what_is_asked_for_has_its_bounds(
    quantity: str, asked: float, bounds: tuple[float, float]
) -> None:
    assert DEFAULT.bounds(quantity, asked) == pytest.approx(bounds)


@pytest.mark.parametrize("percent", [0.1, 0.5, 1.0, 5.0, 20.0])
def test_losses_are_counted_until_both_halves_and_doubles_are_apart(percent: float) -> None:
    settings = LinkSettings(5, 0, percent)
    probes = loss_probes(settings, DEFAULT)
    lost = probes * percent / 100
    # Half of it is as far off as both errors together allow, in deviations of a count.
    reach = (math.sqrt(lost) - math.sqrt(lost / 2)) * 2 / math.sqrt(1 - percent / 100)
    assert reach > 4.2
    assert lost < 120


def test_stricter_tolerances_take_longer() -> None:
    settings = LinkSettings(7.5, 2.5, 1.0)
    strict = Tolerances(delay=5.0, loss=20.0)
    usual = probing_seconds(settings, None, 0.01, DEFAULT)
    assert 6 < usual < 6.7
    assert probing_seconds(settings, None, 0.01, strict) > 3.5 * usual
    assert loss_probes(settings, strict) > 5 * loss_probes(settings, DEFAULT)
