"""The promises of SECURITY.md on machines of provider `lxc`: root of a machine tries to break them.

One deployment of two machines in user namespaces and a cluster's node, and another beside it; every
attack is tried once, by `attacks.py`, and each test is about one promise.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from continuum.deployment import Deployment
from continuum.events import Events
from continuum.experiment.model import Tier
from continuum.images.recipe import Recipe
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.host import cgroups
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc, config, id_range, isolation
from continuum.machine import Command, Machine
from lxc_lab import SMALL, Lab
from side_by_side import nothing_left

pytestmark = pytest.mark.e2e

ATTACKS = Path(__file__).parents[1] / "attacks.py"
REFUSED = {"EPERM", "EACCES"}
OWN_SETTINGS = (
    # Of the machine's own network, users, host name and queues.
    "net/",
    "user/",
    "fs/mqueue/",
    "kernel/msg",
    "kernel/sem",
    "kernel/shm",
    "kernel/domainname",
    "kernel/hostname",
    "kernel/auto_msgmni",
    "kernel/ns_last_pid",
    "kernel/pid_max",
)
_ADD_KEY, _KEYCTL = {"x86_64": (248, 250)}.get(os.uname().machine, (217, 219))
_USER_KEYRING, _UNLINK = -4, 9


@dataclass
class Attacked:
    """Attacks and their outcomes, by machine."""

    lab: Lab
    plan: InfrastructurePlan
    machines: dict[str, Machine]
    came_of_it: dict[str, dict[str, Any]]
    received: list[bytes]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    """Machines whose root has tried everything."""
    root = tmp_path_factory.mktemp("isolation") / "continuum" / "deployments"
    with nothing_left(), ExitStack() as over:
        labs = []
        for name in ("own", "other"):
            provider = Lxc(PluginSettings(), Events())
            image = provider.build_image(Recipe.collect([runtime_tree()]))
            labs.append(Lab(Deployment(name, root), provider, image))
            over.callback(labs[-1].provider.destroy, labs[-1].deployment)
        own, other = labs
        limited = {"machines": 2, "memory": "256 MiB", "disk_write": "20 MB/s"}
        plan = own.plan({"cloud": SMALL, "edge": Tier.model_validate(limited)})
        node = replace(plan.machines[0], nested=True, privileged=True)
        plan = replace(plan, machines=(node, *plan.machines[1:]))
        own.up(plan)
        beside = other.plan({"edge": SMALL})
        other.up(beside)
        listening = over.enter_context(socket.create_server(("", 0)))
        port = listening.getsockname()[1]
        hearing = over.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        hearing.bind(("", port))
        hearing.settimeout(0)
        name = f"isolation-canary-{os.getpid()}"
        abstract = over.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{name}")
        abstract.listen()
        key = _key(name)
        over.callback(_libc.syscall, _KEYCTL, _UNLINK, key, _USER_KEYRING)
        canary = over.enter_context(
            subprocess.Popen(["isolation-canary", "600"], executable="/bin/sleep")
        )
        over.callback(canary.kill)
        gateway = plan.network.host_address
        machines = {each.name: each for each in own.machines(plan)}
        came_of_it = {}
        for machine, handle in machines.items():
            # Even with a route: what the machine's root can do is not what closes the network.
            handle.run(Command(("ip", "route", "add", "default", "via", gateway))).check()
            disk = Path("/").stat().st_dev
            task = {
                "mapped": machine != node.name,
                "disk": [os.major(disk), os.minor(disk)],
                "group": config.machine_group(plan.identity, machine),
                "name": name,
                "key": key,
                "process": canary.pid,
                "connections": {
                    "the host, at the bridge": [gateway, port],
                    "the host, at its own address": [_own_address(), port],
                    "the host, at another deployment's bridge": [
                        beside.network.host_address,
                        port,
                    ],
                    "another deployment": [beside.machines[0].address, 22],
                    "a metadata service": ["169.254.169.254", 80],
                    "the internet": ["192.0.2.1", 443],
                },
                "raw": [handle.address, beside.machines[0].address, gateway, port, gateway],
            }
            program = ("python3", "-", json.dumps(task))
            done = handle.run(Command(program, input=ATTACKS.read_bytes(), timeout=60)).check()
            came_of_it[machine] = json.loads(done.text)
        received = []
        while True:
            try:
                received.append(hearing.recv(1000))
            except BlockingIOError:
                break
        yield Attacked(own, plan, machines, came_of_it, received)


_libc = ctypes.CDLL(None, use_errno=True)


def _key(name: str) -> int:
    """A key of root's on this host."""
    made: int = _libc.syscall(_ADD_KEY, b"user", name.encode(), b"secret", 6, _USER_KEYRING)
    assert made > 0
    return made


def _own_address() -> str:
    """An address of this host that is no bridge's; where it has no other, that of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(asking.getsockname()[0])


MAPPED = pytest.mark.parametrize("machine", ["edge-1", "edge-2"])
EVERY = pytest.mark.parametrize("machine", ["edge-1", "edge-2", "cloud-1"])


@MAPPED
def test_root_inside_is_nobody_on_the_host(attacked: Attacked, machine: str) -> None:
    inside, first, count = map(int, attacked.came_of_it[machine]["uid_map"])
    assert (inside, count) == (0, id_range.SIZE)
    assert first >= id_range.FIRST
    init = Path(f"/proc/{attacked.lab.init(machine)}")
    assert init.stat().st_uid in {first, 0}  # 0 where it may not be looked into.
    assert f"Uid:\t{first}\t{first}" in (init / "status").read_text()
    others = {found["uid_map"][1] for found in attacked.came_of_it.values()}
    assert len(others) == 3


@MAPPED
def test_the_hosts_settings_cannot_be_written(attacked: Attacked, machine: str) -> None:
    for way, names in attacked.came_of_it[machine]["settings"].items():
        foreign = [name for name in names if not name.startswith(OWN_SETTINGS)]
        if way.startswith("sysfs"):
            # Of the machine's own network interfaces.
            foreign = [name for name in foreign if "/net/" not in name]
        assert foreign == [], way


@MAPPED
def test_the_hosts_devices_cannot_be_opened(attacked: Attacked, machine: str) -> None:
    assert set(attacked.came_of_it[machine]["devices"].values()) <= REFUSED


@EVERY
def test_system_calls_on_the_shared_kernel_are_refused(attacked: Attacked, machine: str) -> None:
    for name, came_of_it in attacked.came_of_it[machine]["calls"].items():
        if machine == "cloud-1" and name in {"bpf", "perf_event_open", "syslog"}:
            continue  # A node's containers need them, or its kubelet does.
        # Nobody can do what the kernel does not have.
        assert came_of_it in {*REFUSED, "ENOSYS"}, name


@MAPPED
def test_the_kernels_log_cannot_be_read(attacked: Attacked, machine: str) -> None:
    found = attacked.came_of_it[machine]
    assert found["calls"]["syslog"] == "EPERM"
    assert set(found["kernel log"].values()) <= {*REFUSED, "ENOENT", "ENXIO"}


@MAPPED
def test_a_machine_cannot_leave_its_limits(attacked: Attacked, machine: str) -> None:
    for name, came_of_it in attacked.came_of_it[machine]["limits"].items():
        assert came_of_it in {*REFUSED, "ENOENT", "EROFS", "no"}, name
    groups = cgroups.folders_of(
        cgroups.detect(), config.machine_group(attacked.plan.identity, machine)
    )
    memory = [
        path.read_text().strip()
        for folder in groups
        for path in (folder / "memory.limit_in_bytes", folder / "memory.max")
        if path.exists()
    ]
    assert memory == [str(256 * 2**20)]


@EVERY
def test_the_hosts_sockets_and_processes_are_out_of_sight(attacked: Attacked, machine: str) -> None:
    found = attacked.came_of_it[machine]["others"]
    assert found["abstract socket"] == "ECONNREFUSED"
    assert found["process"] == "no"
    assert found["ptrace"] == "ESRCH"


@MAPPED
def test_the_hosts_keys_are_out_of_sight(attacked: Attacked, machine: str) -> None:
    found = attacked.came_of_it[machine]["others"]
    assert found["key"] in {*REFUSED, "ENOKEY"}
    assert found["key by its name"] == "no"


@EVERY
def test_neither_the_host_nor_others_nor_the_outside_are_reached(
    attacked: Attacked, machine: str
) -> None:
    for name, came_of_it in attacked.came_of_it[machine]["connections"].items():
        assert came_of_it != "done", name


@EVERY
def test_packets_made_by_hand_reach_nobody(attacked: Attacked, machine: str) -> None:
    # That they can be sent is the machine's own business.
    assert "done" in attacked.came_of_it[machine]["raw"].values()
    assert attacked.received == []


def test_machines_do_not_share_what_they_write(attacked: Attacked) -> None:
    one, two = attacked.machines["edge-1"], attacked.machines["edge-2"]
    one.put(b"changed\n", "/usr/bin/python3.changed")
    one.run(Command(("sh", "-c", "echo changed >>/etc/debian_version"))).check()
    assert two.run(Command(("test", "-e", "/usr/bin/python3.changed"))).exit_code == 1
    assert b"changed" not in two.get("/etc/debian_version")


def test_programs_that_a_machines_root_leaves_are_out_of_others_reach(attacked: Attacked) -> None:
    """A set-user-ID program of root's, as one may be written in a machine."""
    one = attacked.machines["edge-1"]
    one.run(Command(("install", "-m", "4755", "/bin/true", "/root/mine"))).check()
    folder = attacked.lab.deployment.folder / "machines"
    assert any(folder.glob("*/upper/root/mine"))
    assert folder.stat().st_mode & 0o077 == 0


def test_what_a_machine_is_in_is_told(attacked: Attacked) -> None:
    told = attacked.lab.provider.isolation(attacked.lab.deployment, attacked.plan)
    assert told == {
        "cloud-1": isolation.PRIVILEGED,
        "edge-1": isolation.USER_NAMESPACE,
        "edge-2": isolation.USER_NAMESPACE,
    }
