"""What an experiment itself sends over its links."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum import plugins
from continuum.benchmark.contract import Application
from continuum.benchmark.traffic import traffic
from continuum.experiment.load import load

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "edge-offload" / "experiment.toml"


def test_it_is_frequency_times_what_a_request_has() -> None:
    experiment = load(EXAMPLE).experiment
    kind: type[Application] = plugins.load("applications", "image_classification")
    found = traffic(experiment, kind(kind.settings_type()))
    assert found is not None
    assert set(found) == {("endpoint", "edge"), ("edge", "endpoint")}
    sent = found["endpoint", "edge"]
    # 5 photos a second, 68 kB each: 47 full packets.
    assert (sent.packets, sent.mbit) == pytest.approx((235, 2.72))


def test_an_application_that_does_not_say_how_large_requests_are_sends_nobody_knows_what() -> None:
    experiment = load(EXAMPLE).experiment
    kind: type[Application] = plugins.load("applications", "command")
    application = object.__new__(kind)
    assert traffic(experiment, application) is None
