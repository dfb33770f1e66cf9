"""Other hosts without any: the connection is to this one, by a program that stands for `ssh`."""

from __future__ import annotations

import ast
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum import errors, native
from continuum.deployment import Deployment
from continuum.errors import ContinuumError, MachineUnreachable, NotPossibleHere, StepFailed
from continuum.events import Event, Events, Note
from continuum.experiment.model import Experiment
from continuum.infrastructure.configure import Surroundings, configure, to_json
from continuum.infrastructure.host import bridge, firewall, overlay, ssh_config
from continuum.infrastructure.hosts import bootstrap_path, bundle, frames, paths, several
from continuum.infrastructure.hosts.connection import Connection
from continuum.infrastructure.placement import Room
from continuum.infrastructure.plan import HostPlan, InfrastructurePlan, Link
from continuum.infrastructure.providers.contract import MachineState, PluginSettings
from continuum.infrastructure.providers.libvirt import Libvirt
from continuum.infrastructure.providers.lxc import Lxc
from continuum.machine import Command, commands_stopped, run_on_host

SSH = """#!/bin/sh
for last; do :; done
echo "$@" >>{folder}/asked
SSH_CONNECTION="127.0.0.1 5 127.0.0.1 22" exec sh -c "{before}$last"
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `ssh` that stays here; its folder, in which a test may put another one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    put(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put(folder: Path, before: str = "", text: str = SSH) -> None:
    program = folder / "ssh"
    program.write_text(text.format(folder=folder, before=before))
    program.chmod(0o755)


@contextmanager
def connected(tmp_path: Path, events: Events | None = None) -> Iterator[Connection]:
    host = HostPlan("two", "root@two:2222", folder=str(tmp_path / "two"))
    connection = Connection(host, events or Events())
    try:
        yield connection
    finally:
        connection.close()


FACTS = {"towards": "127.0.0.1"}


# -- the connection ------------------------------------------------------------------------------


@pytest.mark.usefixtures("ssh")
def test_the_agent_is_brought_once_and_answers(tmp_path: Path, ssh: Path) -> None:
    for _ in range(2):
        with connected(tmp_path) as connection:
            facts = connection.call("facts", FACTS)
            assert facts["cores"] == os.cpu_count()
            assert facts["mtu"] > 0
            assert connection.addresses == ("127.0.0.1", "127.0.0.1")
        kept = tmp_path / "two" / "cache" / "continuum" / "agents"
        assert [each.name for each in kept.iterdir()] == [bundle.key()]
        place = (kept / bundle.key()).stat().st_ino
    assert place == (kept / bundle.key()).stat().st_ino
    asked = (ssh / "asked").read_text().splitlines()
    assert asked[0].startswith("-T -o BatchMode=yes")
    assert "-p 2222 root@two python3" in asked[0]


@pytest.mark.usefixtures("ssh")
def test_what_goes_wrong_there_is_raised_here_and_the_connection_lives(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        with pytest.raises(errors.CommandFailed, match="host two: this host has no route") as info:
            connection.call("facts", {"towards": "nonsense"})
        assert info.value.where == "host two: ip -json route get nonsense"
        assert connection.call("facts", FACTS)["cores"] > 0


@pytest.mark.usefixtures("ssh")
def test_an_agent_that_fails_is_not_a_host_that_cannot_be_reached(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        with pytest.raises(errors.StepFailed, match="our program ended with status 1") as info:
            connection.call("nonsense", {})
        assert info.value.output.endswith("KeyError: 'nonsense'")


@pytest.mark.usefixtures("ssh")
def test_the_agent_ends_with_its_connection(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        connection.open()
        before = agents(tmp_path)
        assert len(before) == 1
    assert agents(tmp_path) == []


def agents(tmp_path: Path) -> list[str]:
    """Processes that run from the bundle of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            variables = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"PYTHONPATH={tmp_path}/two".encode() in variables:
            found.append(entry.name)
    return found


@pytest.mark.usefixtures("ssh")
def test_an_interruption_ends_the_connection(tmp_path: Path) -> None:
    with connected(tmp_path) as connection:
        connection.open()
        with commands_stopped(), pytest.raises(errors.Interrupted):
            connection.call("facts", FACTS)
        assert connection.call("facts", FACTS)["cores"] > 0


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("#!/bin/sh\necho 'no route' >&2\nexit 255\n", MachineUnreachable, "cannot be reached"),
        ("#!/bin/sh\nexit 127\n", NotPossibleHere, "host two has no python3"),
        ("#!/bin/sh\necho hello\n", MachineUnreachable, "cannot be reached"),
        ("#!/bin/sh\nexit 3\n", StepFailed, "ended with status 3"),
    ],
)
def test_what_cannot_be_reached_is_said(
    tmp_path: Path, ssh: Path, text: str, kind: type[ContinuumError], message: str
) -> None:
    put(ssh, text=text)
    with connected(tmp_path) as connection, pytest.raises(kind, match=message) as info:
        connection.open()
    assert "root@two" in info.value.where


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"python": "3.4"}, "host two: Python 3.4, and here 3."),
        ({"architecture": "riscv64"}, "host two: architecture riscv64"),
        ({"libc": ""}, "host two: libc unknown"),
        ({"refusal": "sudo: a password is required"}, "root is needed"),
    ],
)
def test_a_host_that_cannot_run_the_agent_is_refused(
    tmp_path: Path, ssh: Path, found: dict[str, str], message: str
) -> None:
    with connected(tmp_path) as connection:
        connection.open()
    told = run_on_host(
        Command((sys.executable, str(bootstrap_path())), input=b"", timeout=20)
    ).stdout
    line = json.dumps({**json.loads(told), "refusal": "", **found})
    put(ssh, text=f"#!/bin/sh\necho '{line.replace('{', '{{').replace('}', '}}')}'\nread x\n")
    with connected(tmp_path) as connection, pytest.raises(NotPossibleHere, match=message):
        connection.open()


@pytest.mark.usefixtures("ssh")
def test_notes_and_progress_come_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    with connected(tmp_path, Events([heard.append])) as connection:
        connection.open()
        answers = [{"note": "careful", "level": "warning"}, {"progress": "half"}, {"result": 7}]
        monkeypatch.setattr(connection, "_read", iter(answers).__next__)
        said: list[str] = []
        assert connection.call("facts", FACTS, progress=said.append) == 7
    assert heard == [Note("host two: careful", "warning")]
    assert said == ["half"]


@pytest.mark.skipif(os.geteuid() != 0, reason="layers have root's files")
@pytest.mark.usefixtures("ssh")
def test_a_layer_is_brought_once_with_modes_and_attributes(tmp_path: Path) -> None:
    root = tmp_path / "here" / "layer-1" / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "su").write_bytes(b"x" * 300_000)
    os.chown(root / "bin" / "su", 0, 7)
    (root / "bin" / "su").chmod(0o4755)
    (root / "link").symlink_to("bin/su")
    layers = {"layer-1": {"title": "packages", "suite": "x"}}
    asked = {"fingerprint": "image", "layers": layers, "whole": True}
    with connected(tmp_path) as connection:
        assert connection.call("image", asked, give=lambda _: several.packed(root)) == 1
        assert connection.call("image", asked) == 0
    there = tmp_path / "two" / "cache" / "continuum" / "images"
    status = (there / "layer-1" / "root" / "bin" / "su").stat()
    assert (status.st_mode & 0o7777, status.st_gid, status.st_size) == (0o4755, 7, 300_000)
    assert (there / "layer-1" / "root" / "link").readlink() == Path("bin/su")
    assert json.loads((there / "layer-1" / "record.json").read_text())["suite"] == "x"
    assert (there / "image.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="layers have root's files")
@pytest.mark.usefixtures("ssh")
def test_what_is_not_all_of_an_image_does_not_count_as_it(tmp_path: Path) -> None:
    root = tmp_path / "disk-1" / "root"
    root.mkdir(parents=True)
    layers = {"disk-1": {"title": "disk"}}
    asked = {"fingerprint": "image", "layers": layers, "whole": False}
    with connected(tmp_path) as connection:
        assert connection.call("image", asked, give=lambda _: several.packed(root)) == 1
    images = tmp_path / "two" / "cache" / "continuum" / "images"
    assert {each.name for each in images.glob("[!.]*")} == {"disk-1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="layers have root's files")
@pytest.mark.usefixtures("ssh")
def test_a_layer_that_is_cut_off_leaves_none(tmp_path: Path) -> None:
    def broken(_: str) -> Iterator[bytes]:
        yield b"no tar" * 1000

    layers = {"layer-1": {"title": "packages"}}
    asked = {"fingerprint": "image", "layers": layers, "whole": True}
    with connected(tmp_path) as connection:
        with pytest.raises(StepFailed, match="host two: layer layer-1 could not be unpacked"):
            connection.call("image", asked, give=broken)
        assert connection.call("states", nothing()) == []
    images = tmp_path / "two" / "cache" / "continuum" / "images"
    assert [each.name for each in images.iterdir()] == [".layer-1.lock"]


def nothing() -> dict[str, object]:
    return {"provider": "lxc", "settings": {}, "deployment": "none", "identity": "00000000"}


# -- frames and the bundle -----------------------------------------------------------------------


def test_frames_and_their_ends() -> None:
    stream = io.BytesIO()
    frames.write(stream, {"bytes": 3}, b"a\nb")
    frames.write(stream, {"result": None})
    whole = stream.getvalue()
    stream.seek(0)
    assert frames.read(stream) == ({"bytes": 3}, b"a\nb")
    assert frames.read(stream) == ({"result": None}, b"")
    assert frames.read(stream) is None
    for cut in (whole[:5], whole[:14], b"hello\n", b"[1]\n", b""):
        assert frames.read(io.BytesIO(cut)) is None


@pytest.mark.parametrize("kind", [NotPossibleHere, MachineUnreachable, errors.TimedOut])
def test_an_error_keeps_its_kind_and_names_its_host(kind: type[ContinuumError]) -> None:
    sent = frames.of_error(kind("no", where="x", output="o", hint="h"))
    found = frames.to_error(json.loads(json.dumps(sent)), "two")
    assert type(found) is kind
    assert (found.message, found.where) == ("host two: no", "host two: x")
    assert (found.output, found.hint) == ("o", "on host two: h")


def test_an_error_of_ours_that_is_not_known_there_is_its_parent() -> None:
    class Special(StepFailed):
        pass

    assert frames.of_error(Special("x"))["kind"] == "StepFailed"


def test_the_bundle_brings_programs_in_c_with_their_sources() -> None:
    held = bundle.files()
    assert "continuum_runtime/native/sentinel.c" in held
    compiled = f"continuum_runtime/native/{platform.machine()}/sentinel"
    assert held.get(compiled) == native.program("sentinel")


def test_the_bundle_holds_all_that_the_agent_imports() -> None:
    program = (
        "import sys; import continuum.infrastructure.hosts.agent, continuum.infrastructure."
        "providers.lxc.checks, continuum.infrastructure.links.netem, continuum_runtime.delay_emulator;"
        "print(*{name.partition('.')[0] for name, module in sys.modules.items()"
        " if 'site-packages' in str(getattr(module, '__file__', ''))})"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    ).stdout
    imported = {name for name in told.split() if not name.startswith("_")}
    assert imported <= {*bundle.PACKAGES, "continuum", "continuum_runtime"}
    assert "continuum_runtime/native/delay_emulator.c" in bundle.files()


def test_the_bootstrap_is_understood_by_old_pythons_and_alone() -> None:
    tree = ast.parse(bootstrap_path().read_text(), feature_version=(3, 5))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported <= set(sys.stdlib_module_names)
    assert not [
        node for node in ast.walk(tree) if isinstance(node, (ast.ImportFrom, ast.JoinedStr))
    ]


# -- the network between hosts -------------------------------------------------------------------


def plan(hosts: dict[str, str], links: list[dict[str, Any]] | None = None) -> InfrastructurePlan:
    """One tier per key, each with two machines on the host that is named."""
    names = sorted({host for host in hosts.values() if host})
    experiment = Experiment.model_validate(
        {
            "name": "sample",
            "hosts": [{"name": name, "ssh": name} for name in names],
            "tiers": {
                tier: {"machines": 2, "hosts": [host or "this"]} for tier, host in hosts.items()
            },
            "network": {"links": links or []},
        }
    )
    surroundings = Surroundings(
        deployment="sample",
        identity="0badcafe",
        image="image",
        host_cores=2,
        hosts=tuple(
            HostPlan(name, name, address=f"192.0.2.{place}", seen_from="192.0.2.1")
            for place, name in enumerate(names, 2)
        ),
        rooms=tuple(Room(name, 8, 2**34) for name in ("", *names)),
    )
    return configure(experiment, surroundings, {})


DELAYS = {
    frozenset(("", "far")): 4.0,
    frozenset(("", "near")): 1.0,
    frozenset(("far", "near")): 3.0,
}


def delays(whole: InfrastructurePlan, host: str, *, at_receiver: bool) -> dict[str, float]:
    links = paths.on_host(whole, DELAYS, host, at_receiver=at_receiver)
    return {f"{link.source} {link.destination}": link.settings.delay_ms for link in links}


def test_the_paths_own_delay_is_taken_off_where_packets_wait() -> None:
    whole = plan({"a": "", "b": "far"}, [{"from": "a", "to": "b", "delay": "10 ms"}])
    assert delays(whole, "", at_receiver=False) == {"a b": 6.0}
    assert delays(whole, "far", at_receiver=True) == {"a b": 6.0}
    # The other end does not hold them back, whatever it is told.
    assert delays(whole, "far", at_receiver=False) == {"a b": 10.0}


def test_within_a_host_nothing_is_taken_off_and_of_several_paths_the_shortest_is() -> None:
    whole = plan({"a": "far", "b": "far"}, [{"between": ["a", "a"], "delay": "10 ms"}])
    assert delays(whole, "far", at_receiver=False) == {"a a": 10.0}
    links = [{"from": "a", "to": "b", "delay": "10 ms"}]
    spread = plan({"a": "", "b": "far"}, links)
    machines = [
        replace(each, host="near") if each.name == "b-2" else each for each in spread.machines
    ]
    assert delays(replace(spread, machines=tuple(machines)), "", at_receiver=False) == {"a b": 9.0}


def test_a_path_that_takes_longer_than_asked_is_not_hidden() -> None:
    whole = plan({"a": "", "b": "far"}, [{"from": "a", "to": "b", "delay": "3 ms"}])
    assert delays(whole, "", at_receiver=False) == {"a b": 0.0}
    assert paths.too_long(whole, DELAYS) == [
        "link a → b asks for 3 ms; the path between hosts this and far itself takes 4 ms"
    ]
    assert paths.too_long(plan({"a": "", "b": ""}), DELAYS) == []


def test_a_measurement_that_hardly_differs_changes_nothing() -> None:
    pair, other = frozenset(("", "a")), frozenset(("", "b"))
    assert paths.settled({pair: 1.0}, {pair: 1.05, other: 2.0}) == {pair: 1.0, other: 2.0}
    assert paths.settled({pair: 1.0}, {pair: 1.3}) == {pair: 1.3}


def test_every_two_hosts_with_machines_are_measured_once() -> None:
    whole = plan({"a": "", "b": "far", "c": "near"})
    found = [(source, target.name) for source, target in paths.between(whole)]
    assert found == [("", "b-1"), ("", "c-1"), ("far", "c-1")]


def test_rules_let_the_other_hosts_in_and_nobody_else() -> None:
    network = plan({"a": "far"}).network
    assert overlay.name_of("0badcafe") == "ctv0badcafe"
    port = overlay.port_of("0badcafe")
    assert 61_000 <= port < 65_000
    texts = [each.text for each in firewall.rules(network, ("192.0.2.2",), port)]
    assert texts[-2:] == [
        f"-s 192.0.2.2 -p udp --dport {port} -j ACCEPT",
        f"-p udp --dport {port} -j DROP",
    ]
    assert texts[:-2] == [each.text for each in firewall.rules(network)]


def test_on_a_bridge_of_the_users_only_our_block_is_closed() -> None:
    network = replace(plan({"a": ""}).network, bridge="br0", joined=True, internet=True)
    rules = firewall.rules(network, ("192.0.2.2",), 61_000)
    filtering = [each.text for each in rules if each.table == "filter"]
    assert all(str(network.block) in text for text in filtering)


def test_connections_to_machines_elsewhere_end_when_the_host_is_gone(tmp_path: Path) -> None:
    here, there = plan({"a": "", "b": ""}).share(""), plan({"a": "", "b": "far"}).share("")
    for whole, alive in ((here, False), (there, True)):
        deployment = Deployment(f"sample-{alive}".lower(), tmp_path, "0badcafe")
        text = ssh_config.ssh_config(
            (*whole.machines, *whole.elsewhere),
            deployment.folder,
            whole.identity,
            elsewhere=bool(whole.elsewhere),
        )
        assert ("ServerAliveInterval" in text) is alive
        assert text.count("HostName") == 4


def test_bridges_of_one_network_have_addresses_of_their_own(tmp_path: Path) -> None:
    here = Deployment("sample", tmp_path)
    macs = {
        bridge.mac_of("ctm0badcafe", Deployment("sample", tmp_path, "0badcafe", host))
        for host in ("near", "far")
    }
    assert len(macs | {bridge.mac_of("ctm0badcafe", here)}) == 3


# -- the provider over several hosts -------------------------------------------------------------


@pytest.mark.usefixtures("ssh")
def test_a_host_that_is_this_one_is_refused(tmp_path: Path) -> None:
    if not Path("/etc/machine-id").exists():
        pytest.skip("this host has no identity")
    provider = several.over(
        Lxc(PluginSettings(), Events()), [HostPlan("two", "two", folder=str(tmp_path / "two"))]
    )
    assert (provider.name, provider.capabilities.one_clock) == ("lxc", False)
    with pytest.raises(NotPossibleHere, match="host two is the same computer as this host"):
        provider.survey()
    provider.close()


def test_only_what_is_not_reached_any_more_is_cleaned() -> None:
    former = [HostPlan("host-1", "a"), HostPlan("host-2", "b")]
    for hosts, gone in (
        ([HostPlan("host-1", "b"), HostPlan("host-2", "a")], []),
        ([HostPlan("host-1", "b")], ["a"]),
        ([HostPlan("host-1", "other"), HostPlan("host-2", "b")], ["a"]),
        ([HostPlan("big", "a"), HostPlan("small", "b")], []),
    ):
        provider = several.over(Lxc(PluginSettings(), Events()), hosts, former=former)
        assert [each.host.ssh for each in provider.gone] == gone
        provider.close()


def test_down_names_the_host_that_is_gone_after_removing_the_rest(
    tmp_path: Path, ssh: Path
) -> None:
    put(ssh, text="#!/bin/sh\nexit 255\n")
    removed: list[str] = []

    class Made(Lxc):
        def destroy(self, deployment: Deployment) -> None:
            removed.append(deployment.name)

        def states(self, deployment: Deployment) -> list[MachineState]:
            del deployment
            return []

    provider = several.over(Made(PluginSettings(), Events()), [HostPlan("two", "two")])
    deployment = Deployment("sample", tmp_path)
    with pytest.raises(MachineUnreachable, match="host two cannot be reached") as info:
        provider.destroy(deployment)
    assert removed == ["sample"]
    assert "continuum down sample" in info.value.hint
    deployment.write("plan/infrastructure.json", to_json(plan({"a": "", "b": "two"})))
    states = {each.name: each.state for each in provider.states(deployment)}
    assert states == {"b-1": "unreachable", "b-2": "unreachable"}
    provider.close()


def test_links_of_machines_with_own_kernels_are_set_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: dict[str, list[str]] = {}

    class Made(Libvirt):
        def apply_links(self, deployment: Deployment, plan: InfrastructurePlan) -> bool:
            del deployment
            assert plan.network.emulator == "netem"
            applied[plan.host] = [each.name for each in plan.machines]
            return True

        def links_in_force(self, deployment: Deployment, plan: InfrastructurePlan) -> list[Link]:
            del deployment
            if plan.host:
                raise MachineUnreachable("b-1 does not answer")
            return list(plan.network.links)

    monkeypatch.setattr(several.SeveralHosts, "_measure_paths", lambda *_: None)
    provider = several.over(Made(PluginSettings(), Events()), [HostPlan("two", "two")])
    deployment = Deployment("sample", tmp_path)
    whole = plan({"a": "", "b": "two"}, [{"between": ["a", "b"], "delay": "20 ms"}])
    assert provider.apply_links(deployment, whole)
    assert applied == {"": ["a-1", "a-2"], "two": ["b-1", "b-2"]}
    assert provider.links_in_force(deployment, whole) == []
    applied.clear()
    assert provider.apply_links(
        deployment, plan({"b": "two"}, [{"between": ["b", "b"], "delay": "20 ms"}])
    )
    assert applied == {"two": ["b-1", "b-2"]}, "no kernel of a machine is here"
    provider.close()
