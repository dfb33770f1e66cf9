"""A network that is not whole: what is seen of it, and who is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from continuum import existing, workflow
from continuum.infrastructure.host import bridge, firewall
from continuum.infrastructure.host.bridge import Bridge
from continuum.machine import Command, Result
from made_up_plans import PLAN


def saved(comments: list[str]) -> Any:
    """Stands for `iptables-save`, with rules of those comments in its filter table."""

    def run(command: Command) -> Result:
        lines = [f'-A INPUT -j DROP -m comment --comment "{each}"' for each in comments]
        text = "\n".join(lines) if command.arguments[-1] == "filter" else ""
        return Result(command, 0, text.encode(), b"", 0.0, "here")

    return run


@pytest.mark.parametrize("lost", [0, 3])
def test_rules_that_are_gone_are_counted(lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = firewall.rules(PLAN.network)
    there = [*firewall._comments(PLAN.identity, wanted)[lost:], "continuum other 1", "somebody's"]
    monkeypatch.setattr(firewall, "run_on_host", saved(there))
    assert firewall.missing(PLAN.identity, PLAN.network) == (lost, len(wanted))


ADDRESS = f"{PLAN.network.host_address}/{PLAN.network.block.prefixlen}"


@pytest.mark.parametrize(
    ("there", "lack"),
    [
        ([], "is not there"),
        ([("continuum mine", True, (ADDRESS,))], ""),
        ([("continuum other", True, (ADDRESS,))], "is another's"),
        ([("continuum mine", False, (ADDRESS,))], "is down"),
        ([("continuum mine", True, ())], "has not its address"),
    ],
)
def test_a_bridge_is_looked_at(
    there: list[tuple[str, bool, tuple[str, ...]]], lack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = PLAN.network.bridge
    found = [Bridge(name, label, "", up, addresses) for label, up, addresses in there]
    monkeypatch.setattr(bridge, "all_bridges", lambda: found)
    monkeypatch.setattr(bridge, "label", lambda _: "continuum mine")
    deployment: Any = SimpleNamespace()
    assert bridge.missing(deployment, PLAN.network) == lack


@pytest.mark.parametrize("root", [True, False])
def test_a_plan_has_what_is_gone_as_a_change_where_it_can_be_seen(root: bool) -> None:
    provider: Any = SimpleNamespace(
        may_act=lambda: root,
        network_missing=lambda *_: ["bridge ctm0badcafe is not there"],
        links_in_force=lambda *_: list(PLAN.network.links),
    )
    deployment: Any = SimpleNamespace()
    told = [str(each) for each in workflow._links_that_went(deployment, PLAN, provider)]
    assert told == (["update network: bridge ctm0badcafe is not there"] if root else [])
    seen = existing.network_missing(deployment, PLAN, provider)
    assert bool(seen) is root
