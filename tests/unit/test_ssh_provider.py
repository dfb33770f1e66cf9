"""Provider `ssh`: its settings, how SSH is told of machines, and which machines will not do."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.deployment import Deployment
from continuum.errors import (
    ContinuumError,
    InvalidExperiment,
    MachineUnreachable,
    NotPossibleHere,
    UsageError,
)
from continuum.events import Events
from continuum.experiment.load import load
from continuum.experiment.model import Experiment
from continuum.images.recipe import Recipe
from continuum.infrastructure.configure import Surroundings, changes, configure
from continuum.infrastructure.links import rules
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.plan import Existing, InfrastructurePlan, MachineSpec
from continuum.infrastructure.providers.ssh import Ssh, connection, install, look, remote
from continuum.infrastructure.providers.ssh.connection import Entry
from continuum.infrastructure.providers.ssh.look import Seen, Unfit
from continuum.infrastructure.providers.ssh.settings import SshSettings, parts
from continuum.machine import Command, Machine, Result
from continuum.software import configure as software
from doc_files import write_files_of

FILE = """\
name = "field"

[infrastructure]
provider = "ssh"

[infrastructure.ssh]
key = "key"
machines = {{ edge = ["pi@192.0.2.11", "pi@192.0.2.12:2222"], endpoint = ["station"] }}
{settings}

[tiers.edge]
{edge}
[tiers.endpoint]

[[network.links]]
between = ["edge", "endpoint"]
delay = "10 ms"
rate = "20 Mbit/s"

[[network.links]]
from = "edge-2"
to = "endpoint"
delay = "30 ms"
"""


def read(folder: Path, *, settings: str = "", edge: str = "", more: str = "") -> Experiment:
    path = folder / "field.toml"
    path.write_text(FILE.format(settings=settings, edge=edge) + more)
    return load(path).experiment


def refused(folder: Path, **parts_: str) -> list[tuple[int, str]]:
    with pytest.raises(InvalidExperiment) as raised:
        read(folder, **parts_)
    return [(problem.line, problem.message) for problem in raised.value.problems]


# -- settings ------------------------------------------------------------------------------------


def test_a_tier_has_as_many_machines_as_are_listed(tmp_path: Path) -> None:
    experiment = read(tmp_path)
    assert experiment.machine_names("edge") == ("edge-1", "edge-2")
    assert experiment.machine_names("endpoint") == ("endpoint-1",)
    assert experiment.infrastructure.settings["key"] == str(tmp_path / "key")


def test_numbers_and_tiers_must_fit(tmp_path: Path) -> None:
    assert refused(tmp_path, edge="machines = 3") == [
        (8, "infrastructure.ssh.machines.edge: 2 machines listed, and the tier has 3")
    ]
    (problem,) = refused(tmp_path, more="\n[tiers.cloud]\n")
    assert "no list for tier" in problem[1]
    path = tmp_path / "other.toml"
    path.write_text(FILE.format(settings="", edge="").replace("endpoint = [", "endpiont = ["))
    with pytest.raises(InvalidExperiment) as raised:
        load(path)
    said = str(raised.value)
    assert "endpiont: no such tier" in said
    assert 'no list for tier "endpoint"' in said


def test_the_experiment_of_the_page_can_be_read(tmp_path: Path) -> None:
    assert write_files_of("provider-ssh.md", tmp_path) == ["field.toml"]
    experiment = load(tmp_path / "field.toml").experiment
    assert experiment.machine_names("endpoint") == ("endpoint-1", "endpoint-2")


@pytest.mark.parametrize(
    "target",
    ["", "a b", "-oProxyCommand=x", "user@", "user@-h", "h:0", "h:70000", "u@h:x", "a@b@c"],
)
def test_what_is_no_machine_is_refused_with_its_line(tmp_path: Path, target: str) -> None:
    assert parts(target) is None
    path = tmp_path / "field.toml"
    path.write_text(FILE.format(settings="", edge="").replace('"station"', json.dumps(target)))
    with pytest.raises(InvalidExperiment) as raised:
        load(path)
    assert f"{path}:8" in str(raised.value)


def test_a_machine_that_is_there_twice_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "field.toml"
    path.write_text(FILE.format(settings="", edge="").replace('"station"', '"pi@192.0.2.11"'))
    with pytest.raises(InvalidExperiment, match="is there twice"):
        load(path)
    (problem,) = refused(tmp_path, settings="accept_new_keys = true")
    assert problem[0] == 9
    assert "unknown key" in problem[1]


def test_without_any_list_nothing_can_be_planned(tmp_path: Path) -> None:
    path = tmp_path / "field.toml"
    path.write_text('[infrastructure]\nprovider = "ssh"\n[tiers.edge]\n')
    with pytest.raises(UsageError):
        Ssh(SshSettings(), Events()).existing(Deployment.named("field"), load(path).experiment)


# -- connections ---------------------------------------------------------------------------------


def resolved(tmp_path: Path, text: str, name: str) -> dict[str, str]:
    file = tmp_path / "ssh_config"
    file.write_text(text)
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(file), name], capture_output=True, text=True, check=True
    )
    return dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)


def test_ssh_itself_reads_the_configuration(tmp_path: Path) -> None:
    entries = [Entry("edge-1", "pi@192.0.2.11:2222"), Entry("cloud-1", "host.example")]
    settings = SshSettings(key=tmp_path / "my key")
    text = connection.configuration(entries, settings, known_hosts=tmp_path / "known")
    edge = resolved(tmp_path, text, "edge-1")
    assert (edge["hostname"], edge["user"], edge["port"]) == ("192.0.2.11", "pi", "2222")
    assert edge["identityfile"] == str(tmp_path / "my key")
    assert edge["stricthostkeychecking"] in {"true", "yes"}
    assert edge["batchmode"] == "yes"
    assert str(tmp_path / "known") not in edge["userknownhostsfile"]
    assert resolved(tmp_path, text, "cloud-1")["hostname"] == "host.example"


def test_new_keys_of_hosts_are_kept_apart_from_the_users_own(tmp_path: Path) -> None:
    settings = SshSettings(accept_new_host_keys=True)
    text = connection.configuration(
        [Entry("edge-1", "h")], settings, known_hosts=tmp_path / "known", control=tmp_path
    )
    edge = resolved(tmp_path, text, "edge-1")
    assert edge["stricthostkeychecking"] == "accept-new"
    assert edge["userknownhostsfile"].startswith(f"{tmp_path / 'known'} ")
    assert edge["controlmaster"] == "auto"


def test_what_the_users_settings_say_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jump host is a name of the user's settings, which `ssh -F` would not find."""
    own = tmp_path / "own_config"
    own.write_text(
        "Host station\n HostName 192.0.2.9\n User admin\n Port 2200\n IdentityFile /keys/station\n"
        " ProxyJump first,second\n"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    real = next(
        path for folder in os.environ["PATH"].split(":") if (path := Path(folder, "ssh")).exists()
    )
    wrapper = f'#!/bin/sh\ncase " $* " in *" -F "*) exec {real} "$@";; esac\n'
    (programs / "ssh").write_text(f'{wrapper}exec {real} -F {own} "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    connection._resolved.cache_clear()
    text = connection.configuration(
        [Entry("edge-1", "station")], SshSettings(), known_hosts=tmp_path / "known"
    )
    connection._resolved.cache_clear()
    edge = resolved(tmp_path, text, "edge-1")
    assert (edge["hostname"], edge["user"], edge["port"]) == ("192.0.2.9", "admin", "2200")
    assert edge["identityfile"] == "/keys/station"
    assert edge["proxycommand"] == "ssh -J first -W '[%h]:%p' -- second"


# -- which machines will do ----------------------------------------------------------------------

ENTRY = Entry("edge-1", "pi@192.0.2.11")
SAID: dict[str, Any] = {
    "login": "pi",
    "sudo": True,
    "architecture": "aarch64",
    "python": [3, 11],
    "libc": ["glibc", "2.36"],
    "release": {"ID": "debian", "VERSION_CODENAME": "bookworm", "PRETTY_NAME": "Debian"},
    "programs": ["apt-get", "ip", "systemctl"],
    "systemd": True,
    "lacking": [],
    "client": "198.51.100.7",
    "address": "192.0.2.11",
    "device": "wlan0",
    "shaped": False,
    "cores": 4,
    "memory": 4_010_000_000,
    "record": None,
    "foreign": [],
    "hosts": "",
}


def answer(stdout: str, code: int = 0, stderr: str = "") -> Result:
    return Result(Command(("probe",)), code, stdout.encode(), stderr.encode(), 0.1)


def judged(said: Result | ContinuumError, *, accept: bool = False) -> Seen | Unfit:
    return look.judge(said, ENTRY, SshSettings(accept_new_host_keys=accept), "0a0b0c0d")


def test_a_machine_that_will_do() -> None:
    seen = judged(answer(json.dumps(SAID)))
    assert isinstance(seen, Seen)
    assert (seen.login, seen.architecture, seen.python, seen.libc) == (
        "pi",
        "arm64",
        "3.11",
        (2, 36),
    )
    own = {**SAID, "shaped": True, "record": {"identity": "0a0b0c0d", "deployment": "field"}}
    assert isinstance(judged(answer(json.dumps(own))), Seen)


@pytest.mark.parametrize(
    ("different", "word"),
    [
        ({"sudo": False}, "sudo"),
        ({"programs": ["ip", "systemctl"]}, "Debian or Ubuntu"),
        ({"programs": ["apt-get"]}, "program ip"),
        ({"systemd": False}, "systemd"),
        ({"architecture": "riscv64"}, "riscv64"),
        ({"lacking": ["ctypes"]}, "ctypes"),
        ({"address": "127.0.0.1", "device": "lo"}, "127.0.0.1"),
        ({"address": "2001:db8::1"}, "2001:db8::1"),
        ({"device": ""}, "IPv4"),
        ({"record": {"identity": "ffffffff", "deployment": "other"}}, '"other"'),
        ({"foreign": ["/opt/continuum"]}, "/opt/continuum"),
        ({"shaped": True}, "traffic control"),
    ],
)
def test_a_machine_that_will_not_do_says_why(different: dict[str, Any], word: str) -> None:
    unfit = judged(answer(json.dumps({**SAID, **different})))
    assert isinstance(unfit, Unfit)
    assert unfit.message.startswith("edge-1 (pi@192.0.2.11) ")
    assert word in unfit.message
    assert not unfit.unreachable


def test_an_old_python_and_none_at_all() -> None:
    old = judged(answer("3.7", 9))
    assert isinstance(old, Unfit)
    assert "Python 3.7" in old.message
    none = judged(answer("", 127, "timeout: failed to run command 'python3'"))
    assert isinstance(none, Unfit)
    assert "no python3" in none.message
    small = judged(answer("", 1, "ModuleNotFoundError: No module named 'json'"))
    assert isinstance(small, Unfit)
    assert "standard library" in small.message


def test_a_host_key_that_nobody_knows_is_told_what_to_do() -> None:
    error = MachineUnreachable("no", output="Host key verification failed.")
    unfit = judged(error)
    assert isinstance(unfit, Unfit)
    assert unfit.unreachable
    assert "accept_new_host_keys" in unfit.hint
    changed = MachineUnreachable("no", output="REMOTE HOST IDENTIFICATION HAS CHANGED! Host key")
    for accept in (True, False):
        told = judged(changed, accept=accept)
        assert isinstance(told, Unfit)
        assert "accept_new_host_keys" not in told.hint


def test_all_machines_are_told_of_at_once() -> None:
    far, near = Unfit("one is far", unreachable=True, hint="go there"), Unfit("two is old")
    with pytest.raises(MachineUnreachable) as raised:
        look.refuse([near, far])
    assert raised.value.message == "two is old\none is far"
    assert raised.value.hint == "go there"
    with pytest.raises(NotPossibleHere):
        look.refuse([near])
    look.refuse([])


# -- the plan ------------------------------------------------------------------------------------


def plan_of(
    experiment: Experiment, addresses: dict[str, str], login: str = "root"
) -> InfrastructurePlan:
    machines = {
        name: MachineSpec(name, tier, addresses[name], "", 4, 1.0, 2**32, login=login)
        for tier in experiment.tiers
        for name in experiment.machine_names(tier)
    }
    surroundings = Surroundings(
        "field", "0a0b0c0d", "image", 2, existing=Existing(machines, "198.51.100.7")
    )
    return configure(experiment, surroundings, {})


ADDRESSES = {"edge-1": "192.0.2.11", "edge-2": "10.9.0.3", "endpoint-1": "192.0.2.13"}


def test_links_tell_machines_apart_wherever_their_addresses_lie(tmp_path: Path) -> None:
    plan = plan_of(read(tmp_path), ADDRESSES)
    assert [spec.address for spec in plan.machines] == list(ADDRESSES.values())
    links = {(link.source, link.destination): link for link in plan.network.links}
    assert plan.network.links[0] == links["edge-2", "endpoint"]
    assert set(map(str, links["edge", "endpoint"].source_blocks)) == {
        "192.0.2.11/32",
        "10.9.0.3/32",
    }
    one, two, endpoint = plan.machines
    assert rules.link_between(plan.network.links, one, endpoint) == links["edge", "endpoint"]
    assert rules.link_between(plan.network.links, two, endpoint) == links["edge-2", "endpoint"]
    assert rules.link_between(plan.network.links, endpoint, two) == links["endpoint", "edge"]
    assert rules.link_between(plan.network.links, one, two) is None


def test_a_link_to_several_addresses_is_one_class_with_several_filters(tmp_path: Path) -> None:
    plan = plan_of(read(tmp_path), ADDRESSES)
    batch = Netem().configure(plan)["endpoint-1.tc"]
    # Beside that of what is sent to everybody.
    assert batch.count("class add") == 2
    assert batch.count("netem") == 2
    targets = [line for line in batch.splitlines() if line.endswith("flowid 1:10")]
    assert [line.split(" dst ")[1].split(" ")[0] for line in targets] == [
        "10.9.0.3/32",
        "192.0.2.11/32",
    ]
    table = Nfqueue().configure(plan)["endpoint-1.rules"]
    # edge-2 by a link of its own, both by their tier's.
    assert table.count("-s 10.9.0.3/32") == 2
    assert table.count("--queue-num 1001") == 2
    assert "-s 198.51.100.7/32 -j RETURN" in table


def test_a_machine_that_has_moved_is_a_change(tmp_path: Path) -> None:
    experiment = read(tmp_path)
    before = plan_of(experiment, ADDRESSES)
    after = plan_of(experiment, {**ADDRESSES, "edge-1": "192.0.2.99"})
    states = dict.fromkeys(ADDRESSES, "running")
    assert changes(before, states, before) == []
    assert changes(before, states, replace(before, settings={"key": "other"})) == []
    found = changes(before, states, after)
    assert [(change.action, change.what) for change in found] == [
        ("update", "edge-1"),
        ("update", "links"),
    ]


def test_ansible_becomes_root_where_somebody_else_logs_in(tmp_path: Path) -> None:
    experiment = read(tmp_path, more='[software]\nservices = ["mqtt"]\n')
    for login, become in (("pi", True), ("root", False)):
        plan = plan_of(experiment, ADDRESSES, login)
        inventory = software.configure(experiment, plan).files["inventory.json"]
        assert ("ansible_become" in inventory) == become


def seen_at(address: str, client: str = "198.51.100.7") -> Seen:
    seen = judged(answer(json.dumps(SAID)))
    assert isinstance(seen, Seen)
    return replace(seen, address=address, client=client)


def test_what_tiers_ask_for_and_machines_do_not_have_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = read(tmp_path)
    targets = ("pi@192.0.2.11", "pi@192.0.2.12:2222", "station")
    found = {
        target: seen_at(address)
        for target, address in zip(targets, ADDRESSES.values(), strict=True)
    }
    # SSH comes to the endpoint by way of a machine of the experiment.
    found["station"] = seen_at("192.0.2.13", client="192.0.2.11")
    provider = Ssh(SshSettings.model_validate(experiment.infrastructure.settings), Events())
    monkeypatch.setattr(provider, "_look", lambda *_: provider._seen.update(found))
    existing = provider.existing(Deployment.named("field"), experiment)
    assert existing is not None
    assert existing.host_address == "198.51.100.7"
    spec = existing.machines["edge-2"]
    assert (spec.address, spec.cores, spec.login) == ("10.9.0.3", 4, "pi")
    plan = plan_of(experiment, ADDRESSES)
    limits, way = provider.remarks(experiment, plan)
    assert "not enforced" in limits
    assert "edge-1 has 4 cores" in limits
    assert way.startswith("SSH reaches endpoint-1 by way of edge-1")
    found["station"] = seen_at("192.0.2.11")
    with pytest.raises(NotPossibleHere, match=r"edge-1, endpoint-1 have the same address"):
        provider.existing(Deployment.named("field"), experiment)


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ('[software]\nmanager = "kubernetes"\n', "containers"),
        ('[software]\nexecution_model = "container"\n', "containers"),
    ],
)
def test_what_is_not_carried_is_refused_before_a_machine_is_asked(
    tmp_path: Path, more: str, word: str
) -> None:
    experiment = read(tmp_path, more=more)
    provider = Ssh(SshSettings.model_validate(experiment.infrastructure.settings), Events())
    with pytest.raises(NotPossibleHere, match=word):
        provider.existing(Deployment.named("field"), experiment)


def test_a_machine_of_another_spelling_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left under the old one, and has no software any more under the new one."""
    experiment = read(tmp_path)
    provider = Ssh(SshSettings.model_validate(experiment.infrastructure.settings), Events())
    provider.build_image(Recipe.collect([]))
    deployment = Deployment("field", tmp_path / "deployments")
    spelled = [
        ("edge-1", "192.0.2.11"),
        ("edge-2", "pi@192.0.2.12:2222"),
        ("endpoint-1", "station"),
    ]
    used = [{"name": name, "target": target, "sudo": False} for name, target in spelled]
    deployment.write("machines/ssh.json", json.dumps(used))
    monkeypatch.setattr(install.Installer, "is_whole", lambda _, seen: seen.record is not None)
    installed: list[str] = []

    def bring(_: install.Installer, machine: Machine, *__: object) -> bool:
        installed.append(machine.name)
        return True

    monkeypatch.setattr(install.Installer, "install", bring)
    records: dict[str, dict[str, str]] = {
        name: {"identity": deployment.identity, "deployment": "field"} for name in ADDRESSES
    }

    def ask(machine: Machine, verb: str, *_: object, timeout: float) -> Result:
        assert timeout
        if verb == "release":
            del records[machine.name]
        address = ADDRESSES[machine.name]
        record = records.get(machine.name)
        return answer(json.dumps({**SAID, "address": address, "record": record}))

    monkeypatch.setattr(remote, "ask", ask)
    provider.existing(deployment, experiment)
    plan = plan_of(experiment, ADDRESSES)
    assert provider.create(deployment, plan, lambda _: None) == ["edge-1"]
    assert installed == ["edge-1"]


# -- what is brought to machines -----------------------------------------------------------------


def test_wheels_are_those_of_the_machines_architecture_and_glibc() -> None:
    arm = install.platforms("arm64", (2, 31))
    assert arm[0] == "manylinux_2_31_aarch64"
    assert "manylinux_2_17_aarch64" in arm
    assert "manylinux2014_aarch64" in arm
    assert not any("x86_64" in each or "2_32" in each for each in arm)
    assert install.platforms("amd64", (0, 0)) == ("manylinux2014_x86_64", "linux_x86_64")


def test_addresses_of_a_plan_can_be_anywhere(tmp_path: Path) -> None:
    """The block that covers them is no block that anything is made of."""
    plan = plan_of(read(tmp_path), ADDRESSES)
    assert all(ipaddress.IPv4Address(each) in plan.network.block for each in ADDRESSES.values())
    assert plan.network.tiers == {}
