"""The page about emulators: what it shows works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continuum.deployment import Deployment
from continuum.infrastructure.links import namespaces, process
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.plan import LinkSettings
from continuum.testing.link_lab import lab, make_plan

PAGE = Path(__file__).parents[2] / "docs" / "write-your-own-emulator.md"


@pytest.mark.e2e
def test_the_example_limits_rates(tmp_path: Path) -> None:
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102  the page's own example
    emulator = names["Rates"]()
    settings = LinkSettings(rate_mbit=12.3)
    plan = make_plan({"edge": 1, "endpoint": 2}, {("edge", "endpoint"): settings})
    deployment = Deployment("lab", tmp_path)
    assert emulator.probe() is None
    with lab(plan) as running:
        assert emulator.in_force(deployment, plan, running.interfaces) == []
        assert emulator.apply(deployment, plan, running.interfaces)
        assert not emulator.apply(deployment, plan, running.interfaces)
        assert emulator.in_force(deployment, plan, running.interfaces) == list(plan.network.links)
        for off in range(3):
            rest = [*running.interfaces[:off], *running.interfaces[off + 1 :]]
            assert emulator.in_force(deployment, plan, rest) == []


@pytest.mark.e2e
def test_the_example_ends_what_another_emulator_left(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    code = PAGE.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102  the page's own example
    emulator, former = names["Rates"](), Nfqueue()
    links = {("edge", "endpoint"): LinkSettings(delay_ms=30.0, rate_mbit=12.3)}
    before = make_plan({"edge": 1, "endpoint": 2}, links)
    plan = make_plan(
        {"edge": 1, "endpoint": 2}, {("edge", "endpoint"): LinkSettings(rate_mbit=12.3)}
    )
    deployment = Deployment("lab", tmp_path)
    if former.probe() is not None:
        pytest.skip("this kernel has no packet queues")
    with lab(plan) as running:
        try:
            assert former.apply(deployment, before, running.interfaces)
            assert emulator.apply(deployment, plan, running.interfaces)
            assert not emulator.apply(deployment, plan, running.interfaces)
            assert [namespaces.read_rules(each) for each in running.interfaces] == [None] * 3
            assert process.running(deployment) is None
        finally:
            former.remove(deployment)
