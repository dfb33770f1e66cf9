"""The service that sets clocks: where it has a use, its configuration, and when it is ready."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest

from continuum import plugins, workflow
from continuum.errors import TimedOut
from continuum.events import Events
from continuum.experiment.load import load_text
from continuum.experiment.model import Experiment, Infrastructure, Software
from continuum.images.recipe import Recipe
from continuum.infrastructure.providers.contract import Capabilities
from continuum.infrastructure.providers.fake import Fake
from continuum.machine import Command, Result
from continuum.software import configure
from continuum.software.configure import ROLES
from continuum.software.services import clock
from continuum.software.services.clock import Clock
from continuum.testing.software import DeadMachine, small_experiment, small_plan
from continuum_runtime import time_keeper

GOLDEN = Path(__file__).parents[1] / "golden" / "clock"
OWN = replace(Fake.capabilities, one_clock=False)


class OwnClocks(Fake):
    """Machines on paper, whose clocks differ."""

    name = "own_clocks"
    capabilities = OWN


class KeepsTime(Fake):
    """Machines on paper that existed before."""

    name = "keeps_time"
    capabilities = replace(OWN, keeps_time=True)


@pytest.fixture(autouse=True)
def _providers(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Callable[[str, str], Any] = plugins.load
    more = {kind.name: kind for kind in (OwnClocks, KeepsTime)}
    monkeypatch.setattr(
        plugins, "load", lambda kind, name: more[name] if name in more else load(kind, name)
    )


def on(provider: str, *services: str) -> Experiment:
    return small_experiment(Software(services=services)).model_copy(
        update={"infrastructure": Infrastructure(provider=provider)}
    )


def test_machines_that_share_a_clock_or_keep_their_own_are_left_alone() -> None:
    assert Clock().skip(on("own_clocks")) is None
    assert Clock().skip(on("lxc")) == "machines of the provider lxc share this host's clock"
    assert (
        Clock().skip(on("keeps_time")) == "machines of the provider keeps_time keep their own time"
    )


def test_what_is_named_without_a_use_is_left_out_and_said() -> None:
    asked = on("lxc", "clock", "mqtt")
    assert configure.service_names(asked) == ("mqtt",)
    assert configure.left_out(asked) == (
        'service "clock" is left out: machines of the provider lxc share this host\'s clock',
    )
    assert "chrony" not in Recipe.collect(configure.install_steps(asked)).packages
    assert configure.left_out(on("own_clocks", "clock", "mqtt")) == ()


def test_it_is_on_all_machines_whoever_named_it() -> None:
    asked = on("own_clocks", "clock")
    plan = configure.configure(asked, small_plan(asked))
    assert plan.services == {"clock": ("cloud-1", "edge-1", "edge-2")}
    asked = on("own_clocks")
    plan = configure.configure(asked, small_plan(asked), {"clock": ()})
    assert plan.services == {"clock": ("cloud-1", "edge-1", "edge-2")}
    assert "chrony" in Recipe.collect(configure.install_steps(asked, ["clock"])).packages


EXPERIMENT = """\
name = "clocks"
[infrastructure]
provider = "{provider}"
[tiers.edge]
machines = 2
{more}
"""


@pytest.mark.parametrize(
    ("provider", "more", "carried"),
    [
        ("own_clocks", "[software]", True),
        ("own_clocks", "", False),
        ("keeps_time", "[software]", False),
        ("fake", "[software]", False),
    ],
)
def test_it_comes_by_itself_where_machines_have_clocks_of_their_own(
    provider: str, more: str, monkeypatch: pytest.MonkeyPatch, *, carried: bool
) -> None:
    monkeypatch.setattr(plugins, "problem_with", lambda *_: None)
    loaded = load_text(EXPERIMENT.format(provider=provider, more=more), Path("clocks.toml"))
    plan = workflow.plan(loaded, Events())
    services = plan.software.services if plan.software else {}
    assert services == ({"clock": ("edge-1", "edge-2")} if carried else {})
    assert plan.infrastructure.network.host_time is carried


def configuration() -> str:
    experiment = on("own_clocks")
    (play,) = Clock().configure(experiment, small_plan(experiment), ("edge-1", "edge-2"))
    template = (ROLES / "clock" / "templates" / "chrony.conf.j2").read_text()
    rendered: str = jinja2.Template(
        template, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    ).render(play.variables)
    return rendered


def test_the_configuration_is_the_one_in_the_golden_folder() -> None:
    assert configuration() == (GOLDEN / "chrony.conf").read_text()


def test_the_unit_waits_for_its_configuration(tmp_path: Path) -> None:
    (tree,) = (
        tree for tree in Recipe.collect(Clock().install()).trees if tree.name == "clock-unit"
    )
    tree.write(tmp_path, lambda _: None)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.relative_to(tmp_path).as_posix() == (
        "etc/systemd/system/chrony.service.d/continuum.conf"
    )
    assert f"ConditionPathExists={clock.CONFIGURATION}\n" in path.read_text()


@pytest.mark.parametrize("container", [True, False])
def test_a_container_never_sets_its_hosts_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, container: bool
) -> None:
    file = tmp_path / "container"
    monkeypatch.setattr(time_keeper, "CONTAINER", file)
    if container:
        file.write_text("lxc")
    assert ("-x" in time_keeper.arguments("file")) is container
    assert time_keeper.arguments("file")[-2:] == ["-f", "file"]


class Tracking(DeadMachine):
    """A machine on which chronyc says something; None when it does not end."""

    def __init__(self, said: str | None) -> None:
        super().__init__()
        self.said = said

    def run(self, command: Command) -> Result:
        if self.said is None:
            raise TimedOut(f"`{command}` did not end")
        return Result(command, 0, self.said.encode(), b"", 0.0)


FOLLOWS = "484F5354,10.1.0.1,11,1790000000.0,{},0.000002,0.00001,1.5,0.0,0.3,0.0004,0.0001,1.0,{}\n"


@pytest.mark.parametrize(
    ("said", "ready"),
    [
        (FOLLOWS.format("0.000000123", "Normal"), True),
        (FOLLOWS.format("-0.000900000", "Normal"), True),
        (FOLLOWS.format("-0.002000000", "Normal"), False),
        (FOLLOWS.format("0.000000000", "Not synchronised"), False),
        ("506 Cannot talk to daemon\n", False),
        (None, False),
    ],
    ids=["follows", "near", "far", "unset", "silent", "stuck"],
)
def test_it_is_ready_when_the_clock_follows(said: str | None, *, ready: bool) -> None:
    assert Clock().ready(Tracking(said)) is ready


def test_capabilities_say_nothing_of_time_unless_told() -> None:
    assert not Capabilities(
        one_clock=False, quota_covers="core", disk_limits="", needs_root=True
    ).keeps_time
