"""What provider `lxc` refuses before it makes anything, and what it never takes for its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from continuum import folders
from continuum.deployment import Deployment
from continuum.errors import NotPossibleHere, StepFailed
from continuum.events import Events
from continuum.experiment.model import Experiment
from continuum.infrastructure.configure import Surroundings, configure
from continuum.infrastructure.host import addresses, bridge, firewall, limits, routing
from continuum.infrastructure.host.cgroups import ControlGroups
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.infrastructure.providers import on_this_host
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc, containers, provider
from continuum.infrastructure.providers.lxc.config import Host
from continuum.infrastructure.providers.lxc.containers import Running

LIMITS = ControlGroups({"cpu": 1, "memory": 1, "pids": 1})


@pytest.fixture
def lxc(monkeypatch: pytest.MonkeyPatch) -> Lxc:
    """On a host that can limit cores and memory, as if by root."""
    monkeypatch.setattr(provider, "_host", lambda *_: Host(LIMITS))
    monkeypatch.setattr(Lxc, "may_act", lambda *_: True)
    return Lxc(PluginSettings(), Events())


@pytest.fixture
def kernel_without_emulators(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has neither of both."""
    monkeypatch.setattr(Netem, "probe", lambda *_: "no netem")
    monkeypatch.setattr(Nfqueue, "probe", lambda *_: "no packet queues")


def plan(**parts: Any) -> InfrastructurePlan:
    tiers = parts.pop("tiers", {"edge": {"machines": 1}, "endpoint": {"machines": 1}})
    experiment = Experiment.model_validate({"name": "sample", "tiers": tiers, **parts})
    return configure(experiment, Surroundings("sample", "0badcafe", "image", 2), {})


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment("sample", tmp_path)


@pytest.mark.usefixtures("kernel_without_emulators")
def test_links_on_a_kernel_without_an_emulator_are_refused_first(
    lxc: Lxc, deployment: Deployment
) -> None:
    with pytest.raises(NotPossibleHere, match="cannot emulate links") as caught:
        lxc.refuse(deployment, plan(network={"preset": "4g"}))
    said = ["netem: no netem", "nfqueue: no packet queues"]
    assert sorted(caught.value.output.splitlines()) == said
    assert "modprobe" in caught.value.hint
    assert not deployment.folder.exists()


@pytest.mark.usefixtures("kernel_without_emulators")
def test_machines_without_links_need_no_emulator(lxc: Lxc, deployment: Deployment) -> None:
    alone = plan()
    lxc.refuse(deployment, alone)
    assert lxc.apply_links(deployment, alone) is False
    with pytest.raises(NotPossibleHere):
        lxc.apply_links(deployment, plan(network={"preset": "4g"}))


def test_the_kernel_is_tried_once_in_one_command(
    lxc: Lxc, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr(Netem, "probe", lambda *_: tried.append("netem"))
    steady = {"between": ["edge", "endpoint"], "delay": "5 ms"}
    linked = plan(network={"links": [steady]})
    lxc.refuse(deployment, linked)
    assert lxc.emulator_in_use(deployment, linked) == "netem"
    assert tried == ["netem"]


def test_who_is_not_root_is_told_what_can_be_known(
    lxc: Lxc, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lxc, "may_act", lambda *_: False)
    lxc.refuse(deployment, plan(network={"preset": "4g"}))
    with pytest.raises(NotPossibleHere, match="do not fit on one bridge"):
        lxc.refuse(deployment, plan(tiers={"edge": {"machines": 2000}}))


def test_limits_that_the_host_lacks_are_refused_first(
    lxc: Lxc, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "_host", lambda *_: Host(ControlGroups({"cpu": 2})))
    with pytest.raises(NotPossibleHere, match="controller memory"):
        lxc.refuse(deployment, plan())


def test_without_the_program_ip_it_is_not_possible_here(
    lxc: Lxc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPossibleHere, match="no program `ip`") as caught:
        lxc.blocks_in_use()
    assert "iproute2" in caught.value.hint


def test_a_title_that_anybody_can_write_names_no_deployment(
    lxc: Lxc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = [tmp_path / name / "machines" for name in ("..", "a b", "Sample", "sample")]
    found = [Running(path, "ctm-0badcafe-edge-1", 1, None) for path in titles]
    monkeypatch.setattr(containers, "running", lambda _=None: found)
    monkeypatch.setattr(bridge, "deployments", lambda *_: ["../x"])
    assert lxc.leftovers(tmp_path) == ["sample"]


def test_a_block_that_another_down_removes_meanwhile_is_none(
    lxc: Lxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("goes", "stays"):
        kept = folders.state_folder() / name / "machines" / "block"
        kept.parent.mkdir(parents=True)
        kept.write_text("10.9.0.0/24\n")
    read = Path.read_text

    def read_text(self: Path, *arguments: Any, **named: Any) -> str:
        if "goes" in self.parts:
            raise FileNotFoundError(self)
        return read(self, *arguments, **named)

    monkeypatch.setattr(addresses, "blocks_in_use", list)
    monkeypatch.setattr(shutil, "which", lambda *_: "/usr/bin/ip")
    monkeypatch.setattr(Path, "read_text", read_text)
    assert lxc.blocks_in_use() == ["10.9.0.0/24"]


# -- the host ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "foreign"), [(True, {"10.9.0.0/24"}), (False, {"10.9.0.0/24", "10.0.4.0/24"})]
)
def test_addresses_are_a_deployments_own_only_while_its_bridge_is_there(
    lxc: Lxc, monkeypatch: pytest.MonkeyPatch, there: bool, foreign: set[str]
) -> None:
    network = plan(infrastructure={"address_block": "10.0.4.0"}).network
    ours = Deployment.named("sample")
    for name, block in (("sample", str(network.block)), ("other", "10.9.0.0/24")):
        path = folders.state_folder() / name / "machines/block"
        path.parent.mkdir(parents=True)
        path.write_text(f"{block}\n")
    label = bridge.label(ours) if there else ""
    monkeypatch.setattr(bridge, "_alias", lambda *_: label)
    monkeypatch.setattr(shutil, "which", lambda *_: "/usr/bin/ip")
    monkeypatch.setattr(addresses, "blocks_in_use", lambda: ["10.0.4.0/24"])
    assert set(lxc.foreign_blocks(ours, network)) == foreign
    monkeypatch.setattr(addresses, "blocks_in_use", list)
    # After a restart of the host its own note alone makes no clash.
    assert set(lxc.foreign_blocks(ours, network)) == {"10.9.0.0/24"}


def test_who_loses_the_addresses_keeps_no_claim_to_them(
    lxc: Lxc, monkeypatch: pytest.MonkeyPatch, deployment: Deployment
) -> None:
    done: list[str] = []

    def taken(*_: object, **__: object) -> bool:
        done.append("bridge")
        raise StepFailed("just taken by another deployment")

    monkeypatch.setattr(on_this_host, "need_root", lambda: None)
    monkeypatch.setattr(limits, "raise_for", lambda *_: [])
    monkeypatch.setattr(firewall, "ensure", lambda *_: True)
    monkeypatch.setattr(routing, "switch_on", lambda *_: done.append("forwarding"))
    monkeypatch.setattr(bridge, "ensure", taken)
    with pytest.raises(StepFailed, match="just taken"):
        lxc.create_network(deployment, plan(infrastructure={"internet": True}))
    assert not (deployment.folder / "machines/block").exists()
    # Forwarding comes after the bridge: whoever goes down meanwhile sees that it is needed.
    assert done == ["bridge"]


def test_forwarding_is_taken_back_by_whoever_goes_last(tmp_path: Path) -> None:
    switch, mark = tmp_path / "ip_forward", tmp_path / "run" / "mark"
    switch.write_text("0\n")
    assert routing.switch_on(mark, switch) is True
    assert switch.read_text() == "1"
    assert routing.switch_on(mark, switch) is False
    assert routing.switch_off(mark, switch) is True
    assert switch.read_text() == "0"
    assert routing.switch_off(mark, switch) is False


def test_forwarding_that_was_on_stays_on(tmp_path: Path) -> None:
    switch, mark = tmp_path / "ip_forward", tmp_path / "mark"
    switch.write_text("1\n")
    assert routing.switch_on(mark, switch) is False
    assert routing.switch_off(mark, switch) is False
    assert switch.read_text() == "1\n"


@pytest.mark.parametrize(
    ("label", "addresses", "clashes"),
    [
        ("continuum other /state", ("10.0.0.1/16",), True),
        ("continuum other /state", ("10.200.0.1/24",), False),
        ("", ("10.0.0.1/16",), False),
    ],
)
def test_addresses_that_another_deployment_took_meanwhile_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
    deployment: Deployment,
    label: str,
    addresses: tuple[str, ...],
    clashes: bool,
) -> None:
    network = plan(infrastructure={"address_block": "10.0.4.0"}).network
    own = f"{network.host_address}/{network.block.prefixlen}"
    ours = bridge.Bridge(network.bridge, bridge.label(deployment), "", up=False, addresses=(own,))
    other = bridge.Bridge("ctm12345678", label, "", up=True, addresses=addresses)
    removed: list[str] = []

    def remove(_: Deployment, name: str) -> bool:
        removed.append(name)
        return True

    class Done:
        def check(self, *_: str, **__: str) -> None:
            pass

    monkeypatch.setattr(bridge, "all_bridges", lambda: [ours, other])
    monkeypatch.setattr(bridge, "run_on_host", lambda *_: Done())
    monkeypatch.setattr(bridge, "remove", remove)
    if not clashes:
        assert bridge.ensure(deployment, network) is True
        assert removed == []
        return
    with pytest.raises(StepFailed, match="just taken by another deployment"):
        bridge.ensure(deployment, network)
    assert removed == [network.bridge]
