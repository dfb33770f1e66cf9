"""Virtual machines over two hosts, for which machines of this host stand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from continuum.infrastructure.providers.libvirt import Libvirt
from continuum.machine import Command
from continuum.testing.stand_ins import StandIns
from side_by_side import nothing_left
from virtual_machines import only_where_asked

pytestmark = [
    pytest.mark.e2e,
    only_where_asked("virtual machines within containers: many minutes", "tests/e2e/test_hosts.py"),
]

EXPERIMENT = """
name = "virtual-across"
[infrastructure]
provider = "libvirt"
this_host = false
{hosts}
[tiers.cloud]
memory = "384 MiB"
hosts = ["left"]
[tiers.edge]
memory = "384 MiB"
hosts = ["right"]
[[network.links]]
between = ["cloud", "edge"]
delay = "20 ms"
rate = "20 Mbit/s"
"""


class HostsOfVirtualMachines(StandIns):
    """They have libvirt and QEMU."""

    packages: ClassVar[tuple[str, ...]] = tuple(
        sorted(
            {*Libvirt.programs.values(), "python3-libvirt"}
            # Hosts that stand for others have a service manager, also where this one has none.
            - {"libvirt-daemon-system-sysv"}
        )
    )

    def start(self) -> None:
        """Start them, with the device that QEMU's network interfaces come from."""
        super().start()
        for machine in self.machines:
            machine.run(Command(("mkdir", "--parents", "/dev/net"))).check()
            machine.run(Command(("mknod", "/dev/net/tun", "c", "10", "200"))).check()

    def traces(self, number: int) -> list[str]:
        """Virtual machines too."""
        listed = Command(("virsh", "--quiet", "list", "--all", "--name"))
        domains = self.machines[number - 1].run(listed).check().text.split()
        return [*super().traces(number), *domains]


@pytest.fixture(scope="module")
def file(shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with nothing_left():
        made = HostsOfVirtualMachines(tmp_path_factory.mktemp("stand-ins"), 2, delay="3 ms")
        path = shared.folder / "across.toml"
        hosts = made.entry(1, "left") + made.entry(2, "right")
        path.write_text(EXPERIMENT.format(hosts=hosts))
        yield path
        shared("down", "--all", code=None)
        left = [made.traces(number) for number in (1, 2)]
        made.remove()
        assert left == [[], []]


def test_one_network_of_virtual_machines_over_two_hosts(shared: Any, file: Any) -> None:
    shared("up", file)
    assert "nothing was changed" in shared("up", file).err
    shown = json.loads(shared("status", "virtual-across", "--json").out)[0]
    assert {each["host"] for each in shown["machines"]} == {"left", "right"}
    assert shown["links_in_force"] == shown["links_asked"] == 2
    ping = ("ping", "-U", "-c3", "-i0.2", "-Mdo", "-s1422", "edge-1")
    assert "3 received" in shared("exec", "virtual-across", "cloud-1", "--", *ping).out
    shared("run", file, "--accept-links", "--results", "out")
    measured = json.loads((shared.folder / "out" / "run.json").read_text())
    assert measured["emulator"] == "netem"
    shared("down", "virtual-across")
