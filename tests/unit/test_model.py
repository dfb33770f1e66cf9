"""The frozen model itself, apart from any file."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from continuum.errors import UsageError
from continuum.experiment.model import (
    Benchmark,
    Experiment,
    Infrastructure,
    Link,
    Network,
    Software,
    Tier,
    problems_over_fields,
)
from continuum.experiment.presets import PRESETS, PresetLink, presets
from continuum.experiment.units import trusted_numbers


def experiment(**parts: object) -> Experiment:
    tiers = {"cloud": Tier(machines=1), "edge": Tier(machines=2), "endpoint": Tier(machines=2)}
    with trusted_numbers():
        return Experiment.model_validate({"name": "x", "tiers": tiers, **parts})


def test_it_is_frozen_and_knows_no_other_keys() -> None:
    whole = experiment()
    with pytest.raises(ValidationError):
        whole.name = "y"
    with pytest.raises(ValidationError):
        Tier.model_validate({"cors": 1})


def test_it_survives_being_stored_as_json() -> None:
    with trusted_numbers():
        link = Link.model_validate({"from": "edge", "to": "cloud-1", "delay": 7.5})
    whole = experiment(
        network=Network(preset="4g", links=(link,)),
        benchmark=Benchmark(application="command", settings={"endpoint": ["true"]}),
    )
    text = json.dumps(whole.model_dump(mode="json", by_alias=True))
    with trusted_numbers():
        assert Experiment.model_validate_json(text) == whole


def test_a_benchmark_brings_the_software_defaults_with_it() -> None:
    assert experiment().software is None
    assert experiment(benchmark=Benchmark(application="command")).software == Software()


@pytest.mark.parametrize(
    ("manager", "workers", "machines"),
    [
        ("none", "", ("edge-1", "edge-2")),
        ("none", "cloud", ("cloud-1",)),
        ("kubernetes", "edge", ("edge-1", "edge-2")),
        ("kubeedge", "edge", ("edge-1", "edge-2")),
    ],
)
def test_which_machines_carry_workers(
    manager: str, workers: str, machines: tuple[str, ...]
) -> None:
    whole = experiment(
        software=Software(manager=manager),
        benchmark=Benchmark(application="command", workers=workers),
    )
    assert whole.worker_machines == machines


def test_where_workers_are_when_nothing_is_said() -> None:
    benchmark = Benchmark(application="command")
    for names, tier in {
        ("cloud", "edge", "endpoint"): "edge",
        ("cloud", "endpoint"): "cloud",
        ("endpoint",): "endpoint",
    }.items():
        tiers = {name: Tier() for name in names}
        assert Experiment(name="x", tiers=tiers, benchmark=benchmark).worker_tier == tier


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("8.8.8.0", "not in a private range"),
        ("127.0.0.0", "not in a private range"),
        ("169.254.1.0", "not in a private range"),
        # Private to Python, but not to RFC 1918.
        ("0.0.0.0", "not in a private range"),  # noqa: S104  no address to listen on
        ("192.0.2.0", "not in a private range"),
        ("198.18.0.0", "not in a private range"),
        ("240.0.0.0", "not in a private range"),
        ("100.64.0.0", "not in a private range"),
        ("224.0.0.0", "not in a private range"),
        ("172.32.0.0", "not in a private range"),
        ("10.0.0.1", "does not start a /24"),
        ("10.0.0", "is not an IPv4 address"),
        ("fd00::", "is not an IPv4 address"),
    ],
)
def test_the_address_block_is_private_and_starts_a_part(block: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Infrastructure(address_block=block)
    assert Infrastructure(address_block="192.168.214.0").address_block == "192.168.214.0"


def test_no_rule_speaks_of_a_sound_experiment() -> None:
    link = Link(between=("edge-2", "endpoint"))
    benchmark = Benchmark(application="command", workers="edge")
    assert (
        problems_over_fields(experiment(network=Network(links=(link,)), benchmark=benchmark)) == []
    )


def test_an_application_without_endpoints_needs_no_tier_for_them() -> None:
    benchmark = Benchmark(application="empty", endpoints="")
    whole = Experiment(name="x", tiers={"cloud": Tier()}, benchmark=benchmark)
    assert problems_over_fields(whole) == []


def test_a_tier_without_machines_carries_nothing() -> None:
    benchmark = Benchmark(application="command", workers="edge")
    tiers = {"edge": Tier(machines=0), "endpoint": Tier()}
    whole = Experiment(name="x", tiers=tiers, benchmark=benchmark)
    assert problems_over_fields(whole) == [
        (("benchmark", "workers"), 'tier "edge", which carries the workers, has no machines')
    ]


def test_presets_hold_the_originals_figures_in_both_directions() -> None:
    assert PRESETS["4g"]["endpoint", "cloud"] == PresetLink(45.0, 5.0, 7.21, 300.0)
    assert PRESETS["5g"]["edge", "endpoint"] == PresetLink(7.5, 2.5, 29.66, 200.0)
    assert PRESETS["wired"]["cloud", "endpoint"] == PresetLink(45.0, 5.0, 1000.0, 100.0)
    for links in PRESETS.values():
        assert links["cloud", "cloud"] == PresetLink(0.0, 0.0, 1000.0, 20.0)
        assert links["edge", "edge"] == links["edge", "cloud"] == PresetLink(7.5, 2.5, 1000.0, 20.0)
        assert all(links[pair[::-1]] == link for pair, link in links.items())
        assert len(links) == 8
    with pytest.raises(UsageError, match='no preset "6g"'):
        presets("6g")
