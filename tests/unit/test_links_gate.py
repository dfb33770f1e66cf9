"""How often the link check lets wrong and true links pass: whole checks, with simulated packets."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from benchmarks.shared import gate

from continuum.infrastructure.plan import LinkSettings

GATES = 100
MOBILE = LinkSettings(7.5, 2.5, 0, 7.21)
FAST = LinkSettings(10, 0, 0, 900)
LOSSY = LinkSettings(5, 0, 1, 100)


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        (MOBILE, {"delay_ms": 8.25}),
        (MOBILE, {"delay_ms": 6.75}),
        (MOBILE, {"jitter_ms": 3.0}),
        (MOBILE, {"jitter_ms": 2.0}),
        (MOBILE, {"loss_percent": 0.1}),
        (FAST, {"rate_mbit": 855}),
        (FAST, {"rate_mbit": 945}),
        (LOSSY, {"loss_percent": 0.5}),
        (LOSSY, {"loss_percent": 2.0}),
        (LinkSettings(1), {"delay_ms": 0}),
        (LinkSettings(0.1), {"delay_ms": 0.4}),
    ],
    ids=str,
)
def test_a_link_that_is_off_by_the_tolerance_does_not_pass(
    asked: LinkSettings, wrong: Mapping[str, float]
) -> None:
    # Asked: at most 5 %. Of 100 gates, each passing with 2.5 %, more than 8 pass once in 1,000.
    assert gate.gates(asked, wrong, count=GATES).passed <= 8


@pytest.mark.parametrize(
    "asked",
    [MOBILE, LOSSY, LinkSettings(45, 5, 0, 29.66), LinkSettings(0.1), LinkSettings(5, 0, 20)],
)
def test_a_true_link_passes(asked: LinkSettings) -> None:
    found = gate.gates(asked, count=GATES)
    assert found.passed >= GATES - 1
    assert found.attempts <= 1.1
