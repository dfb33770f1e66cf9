"""The page about emulators: what it shows works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from continuum.deployment import Deployment
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
