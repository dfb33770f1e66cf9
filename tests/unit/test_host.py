from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from continuum.errors import NotPossibleHere, StepFailed
from continuum.infrastructure.host import (
    addresses,
    cgroups,
    disks,
    firewall,
    keys,
    limits,
    routing,
    ssh_config,
    ssh_wait,
)
from continuum.infrastructure.plan import MachineSpec, NetworkPlan
from continuum.machine import Command, Result
from continuum.testing import host_state

GOLDEN = Path(__file__).parents[1] / "golden" / "lxc"
NETWORK = NetworkPlan(
    bridge="ctm0badcafe",
    block=ipaddress.IPv4Network("10.1.0.0/23"),
    host_address="10.1.0.1",
    tiers={},
)
MACHINES = tuple(
    MachineSpec(f"edge-{number}", "edge", f"10.1.1.{number}", "", 1, 1.0, 2**30)
    for number in (2, 3)
)


# -- firewall ------------------------------------------------------------------------------------


def shown(network: NetworkPlan) -> str:
    return "".join(f"{rule.table} {rule.chain} {rule.text}\n" for rule in firewall.rules(network))


def test_rules_of_a_closed_network() -> None:
    assert shown(NETWORK) == (GOLDEN / "rules-closed").read_text()


def test_rules_of_a_network_with_a_way_out() -> None:
    assert shown(replace(NETWORK, internet=True)) == (GOLDEN / "rules-internet").read_text()


def test_machines_with_clocks_of_their_own_may_ask_for_the_time_and_for_nothing_else() -> None:
    closed, timed = (
        shown(NETWORK).splitlines(),
        shown(replace(NETWORK, host_time=True)).splitlines(),
    )
    (added,) = (line for line in timed if line not in closed)
    assert added == "filter INPUT -i ctm0badcafe -d 10.1.0.1/32 -p udp --dport 46983 -j ACCEPT"
    assert [line for line in timed if line != added] == closed
    assert timed.index(added) < timed.index("filter INPUT -i ctm0badcafe -j DROP")


# -- control groups ------------------------------------------------------------------------------


def mounts(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text("".join(f"30 20 0:26 / {line}\n" for line in lines))
    return path


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "memory.memsw.limit_in_bytes").touch()
    unified = tmp_path / "unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("hugetlb\n")
    found = cgroups.detect(
        mounts(
            tmp_path,
            "/ rw - ext4 /dev/vda rw",
            f"{memory} rw - cgroup cgroup rw,memory",
            f"{tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct",
            f"{tmp_path}/blkio rw - cgroup cgroup rw,blkio",
            f"{unified} rw - cgroup2 cgroup2 rw",
        )
    )
    assert found.versions == {"memory": 1, "cpu": 1, "io": 1, "devices": 2}
    assert found.swap_limit
    assert memory in found.hierarchies
    assert found.folders["memory"] == memory
    assert found.folders["io"] == tmp_path / "blkio"


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    point = tmp_path / "cgroup"
    (point / "user.slice").mkdir(parents=True)
    (point / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    line = f"{point} rw - cgroup2 cgroup2 rw"
    found = cgroups.detect(mounts(tmp_path, line))
    assert set(found.versions) == {"cpuset", "cpu", "io", "memory", "pids", "devices"}
    assert set(found.versions.values()) == {2}
    assert not found.swap_limit
    (point / "user.slice" / "memory.swap.max").touch()
    assert cgroups.detect(mounts(tmp_path, line)).swap_limit


def test_a_group_is_removed_from_the_inside_out(tmp_path: Path) -> None:
    (tmp_path / "group" / "a" / "b").mkdir(parents=True)
    cgroups.remove(tmp_path / "group")
    assert not (tmp_path / "group").exists()
    cgroups.remove(tmp_path / "group")


def test_a_group_that_stays_is_named(tmp_path: Path) -> None:
    (tmp_path / "group" / "a").mkdir(parents=True)
    (tmp_path / "group" / "a" / "file").touch()
    with pytest.raises(StepFailed) as caught:
        cgroups.remove(tmp_path / "group", limit=0.1)
    assert str(tmp_path / "group") in caught.value.where


# -- disks ---------------------------------------------------------------------------------------


def test_a_partition_counts_as_its_disk(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    disk, block = tmp_path / "sda", tmp_path / "block"
    (disk / "sda1").mkdir(parents=True)
    block.mkdir()
    (disk / "dev").write_text("8:0\n")
    (disk / "sda1" / "partition").write_text("1\n")
    nothing = mounts(tmp_path)
    assert disks.disk_of(tmp_path / "not" / "yet", nothing, block) is None
    (block / number).symlink_to(disk / "sda1")
    assert disks.disk_of(tmp_path / "not" / "yet", nothing, block) == "8:0"
    (block / number).unlink()
    (block / number).symlink_to(disk)
    assert disks.disk_of(tmp_path, nothing, block) == number


# -- addresses and names -------------------------------------------------------------------------


def test_blocks_in_use_hold_the_loopback_and_no_default_route() -> None:
    blocks = [ipaddress.IPv4Network(text) for text in addresses.blocks_in_use()]
    assert any(block.overlaps(ipaddress.IPv4Network("127.0.0.0/8")) for block in blocks)
    assert all(block.prefixlen > 0 for block in blocks)


def test_routes_that_carry_nothing_take_no_addresses() -> None:
    told = addresses.of_routes(
        [
            {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "flags": []},
            {"dst": "10.0.0.0/8", "dev": "vpn0", "flags": []},
            {"type": "unreachable", "dst": "172.16.0.0/12", "dev": "lo", "flags": []},
            {"type": "blackhole", "dst": "192.168.0.0/16", "flags": []},
            {"type": "prohibit", "dst": "10.1.0.0/16", "flags": []},
            {"type": "throw", "dst": "10.2.0.0/16", "flags": []},
            {"type": "broadcast", "dst": "10.3.255.255", "dev": "eth0", "flags": []},
            {"dst": "10.4.0.0/16", "dev": "eth1", "flags": ["dead", "linkdown"]},
            {"dst": "172.17.0.0/16", "dev": "docker0", "flags": ["linkdown"]},
            {
                "dst": "10.5.0.0/16",
                "flags": [],
                "nexthops": [{"dev": "eth0", "flags": []}, {"dev": "eth1", "flags": []}],
            },
            {"type": "local", "dst": "10.6.0.1", "dev": "eth0", "flags": []},
        ]
    )
    assert told == {
        "10.0.0.0/8": "route through vpn0",
        "172.17.0.0/16": "route through docker0",
        "10.5.0.0/16": "route through eth0 and eth1",
        "10.6.0.1/32": "route through eth0",
    }


def test_resolvers_of_this_host_alone_are_passed_over(tmp_path: Path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("# local\nnameserver 127.0.0.53\noptions edns0\n")
    assert routing.resolver((stub, real)) == ""
    real.write_text("nameserver 192.0.2.1\nnameserver ::1\nsearch example\n")
    assert routing.resolver((stub, real)) == "search example\nnameserver 192.0.2.1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 127.0.0.1\n", ""),
        ("nameserver 0.0.0.0\n", ""),
        ("nameserver 2001:db8::1\nnameserver fe80::1%eth0\n", ""),
        ("nameserver 169.254.1.1\n", ""),
        ("nameserver\nnameserver nonsense\n", ""),
        (
            "domain old.example\nsearch corp.example lab.example .\nnameserver 2001:db8::1\n"
            + "".join(f"nameserver 192.0.2.{number}\n" for number in range(1, 6)),
            (
                "search corp.example lab.example\n"
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n"
            ),
        ),
    ],
)
def test_machines_get_name_servers_that_they_can_reach(
    tmp_path: Path, text: str, expected: str
) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(text)
    assert routing.resolver((file,)) == expected


def test_what_keeps_machines_from_names_and_networks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "resolv.conf"
    shown = {"text": "[]"}

    def told(command: Command) -> Result:
        return Result(command, 0, shown["text"].encode(), b"", 0.0)

    monkeypatch.setattr(routing, "run_on_host", told)
    file.write_text("nameserver 127.0.0.1\nnameserver fe80::1\n")
    no_route, no_names = routing.obstacles((file,))
    assert "no default route for IPv4" in no_route
    assert "(127.0.0.1, fe80::1) cannot be reached" in no_names
    shown["text"] = '[{"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "flags": []}]'
    assert routing.obstacles((file,)) == [no_names]
    file.write_text("nameserver 192.0.2.1\n")
    assert routing.obstacles((file,)) == []
    (missing,) = routing.obstacles((tmp_path / "none",))
    assert "names no name server" in missing


# -- SSH -----------------------------------------------------------------------------------------


def test_ssh_config() -> None:
    text = ssh_config.ssh_config(MACHINES, Path("/home/a b/100%/ssh"), "0badcafe")
    assert text == (GOLDEN / "ssh_config").read_text()


def test_ssh_itself_reads_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "ssh_config"
    file.write_text(ssh_config.ssh_config(MACHINES, Path("/home/a b/100%/ssh"), "0badcafe"))
    read = subprocess.run(
        ["ssh", "-G", "-F", str(file), "edge-3"], capture_output=True, text=True, check=True
    )
    lines = dict(line.split(" ", 1) for line in read.stdout.splitlines())
    assert lines["hostname"] == "10.1.1.3"
    assert lines["user"] == "root"
    assert lines["userknownhostsfile"] == "/home/a b/100%/ssh/known_hosts"
    assert lines["stricthostkeychecking"] == "true"
    assert len(lines["controlpath"]) < 80


@pytest.mark.parametrize(
    "name",
    ["o'neil", 'a"b', "a b", "a#b", "#", "100%", "%h", "a\\b", "ü", "$HOME", "a=b", "`id`", "a\tb"],
)
def test_ssh_reads_paths_as_they_are(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "ssh"
    file = tmp_path / "ssh_config"
    file.write_text(ssh_config.ssh_config(MACHINES, folder, "0badcafe"))
    read = subprocess.run(
        ["ssh", "-G", "-F", str(file), "edge-3"], capture_output=True, text=True, check=True
    )
    lines = dict(line.split(" ", 1) for line in read.stdout.splitlines())
    told = lines["identityfile"].replace("%%", "%")
    assert told == str(folder / "key")
    ssh_config.refuse(folder)


@pytest.mark.parametrize("name", ["${USER}", "a\nb"])
def test_a_folder_that_ssh_cannot_be_told_of_is_refused(name: str) -> None:
    with pytest.raises(NotPossibleHere) as caught:
        ssh_config.refuse(Path("/home", name, "state"))
    assert "XDG_STATE_HOME" in caught.value.hint


def test_known_hosts() -> None:
    keys_by_name = {"edge-2": "ssh-ed25519 AAA", "edge-3": "ssh-ed25519 BBB"}
    assert ssh_config.known_hosts(MACHINES, keys_by_name) == (
        "edge-2,10.1.1.2 ssh-ed25519 AAA\nedge-3,10.1.1.3 ssh-ed25519 BBB\n"
    )


def test_a_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    pair = keys.ensure(tmp_path / "ssh" / "key")
    assert keys.ensure(tmp_path / "ssh" / "key") == pair
    assert (tmp_path / "ssh" / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ssh").stat().st_mode & 0o777 == 0o700
    told = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(tmp_path / "ssh" / "key")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == pair.public
    # Killed between the two files: the half that is there is not trusted.
    (tmp_path / "ssh" / "key.pub").unlink()
    assert keys.ensure(tmp_path / "ssh" / "key") != pair


def test_waiting_for_ssh_tells_who_answers_and_who_never_will(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(ssh_wait, "_PORT", server.getsockname()[1])

        def serve() -> None:
            # The first caller gets nothing, as from a server that is just starting.
            for greeting in (b"", b"SSH-2.0-test\r\n"):
                connection, _ = server.accept()
                connection.sendall(greeting)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        counts: list[int] = []
        silent = ssh_wait.wait_for_banners(
            {"there": "127.0.0.1", "gone": "127.0.0.2"},
            30,
            progress=counts.append,
            give_up=lambda names: names & {"gone"},
        )
        thread.join(30)
    assert silent == {"gone"}
    assert counts == [1]


def test_waiting_for_ssh_has_an_end() -> None:
    assert ssh_wait.wait_for_banners({"nobody": "127.0.0.3"}, 0.2) == {"nobody"}


# -- limits --------------------------------------------------------------------------------------


def test_limits_are_raised_when_too_low_and_only_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def path(name: str) -> Path:
        return tmp_path / name

    monkeypatch.setattr(limits, "_path", path)
    path(limits.INOTIFY_INSTANCES).write_text("128\n")
    assert limits.raise_for(0) == []
    assert limits.raise_for(100) == [f"{limits.INOTIFY_INSTANCES} from 128 to 1024"]
    assert limits.read(limits.INOTIFY_INSTANCES) == 1024
    assert limits.raise_for(100) == []
    assert limits.read("no.such.parameter") == 0


# -- what is left behind -------------------------------------------------------------------------


def test_what_is_new_and_what_is_gone_is_told() -> None:
    before = {"mounts": frozenset({"/a", "/b"}), "processes": frozenset({"1 old"})}
    after = {"mounts": frozenset({"/b", "/c"}), "processes": frozenset({"2 new"})}
    assert host_state.difference(before, after) == {
        "mounts": {"added": ["/c"], "gone": ["/a"]},
        "processes": {"added": ["2 new"], "gone": []},
    }
    assert host_state.difference(after, after) == {}


def test_a_worker_of_pytest_is_told_whichever_variable_comes_first() -> None:
    variables = {f"{host_state.WORKER}_COUNT": "3", host_state.WORKER: "gw7"}
    words = (sys.executable, "-c", "import time; time.sleep(60)", "continuum")
    with subprocess.Popen(words, env=variables) as child:
        found = host_state.snapshot()["processes"]
        child.kill()
    assert next(each for each in found if each.startswith(f"{child.pid} ")).endswith(" of gw7")
