"""Ids of machines in user namespaces, and the words on who is in one."""

from __future__ import annotations

import ipaddress
import platform
from dataclasses import replace
from pathlib import Path

import pytest

from continuum.infrastructure.plan import MachineSpec
from continuum.infrastructure.providers.lxc import id_range, isolation
from made_up_plans import CLOUD, EDGE, PLAN

SYSTEMD_FOREIGN = 0x7FFE_0000
SSSD_LAST = 2_000_200_000


def ids(first: int) -> range:
    return range(first, first + id_range.SIZE)


def test_machines_of_a_host_have_ids_of_their_own_above_all_users() -> None:
    block = ipaddress.IPv4Network("10.0.4.0/22")
    firsts = [id_range.first_of(str(address)) for address in block.hosts()]
    assert len(set(firsts)) == len(firsts) == 1022
    assert min(firsts) > SSSD_LAST
    assert max(firsts) + id_range.SIZE <= SYSTEMD_FOREIGN
    assert all((first - id_range.FIRST) % id_range.SIZE == 0 for first in firsts)


@pytest.mark.parametrize("shift", [-1, 0, 1, id_range.SIZE - 1])
def test_ids_that_somebody_has_are_left_alone(shift: int) -> None:
    usual = id_range.first_of("10.0.0.2")
    for taken in (range(usual + shift, usual + shift + 1), range(usual + shift, 2**32)):
        found = id_range.first_of("10.0.0.2", [taken])
        clear = not set(ids(found)).intersection(taken[:1])
        assert clear or len(taken) > 1
        if shift >= 0:
            assert found != usual


def test_where_every_id_is_taken_the_usual_ones_are_used() -> None:
    assert id_range.first_of("10.0.0.2", [range(2**32)]) == id_range.first_of("10.0.0.2")


def test_the_hosts_users_are_read_from_its_files(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("ada:2013265920:65536\nbroken\nada:x:1\n\n")
    (tmp_path / "passwd").write_text("ada:x:2013331456:100::/home/ada:/bin/sh\n+::::::\n")
    found = id_range.taken(
        (tmp_path / "subuid", tmp_path / "missing"), (tmp_path / "passwd", tmp_path / "missing")
    )
    assert found == [range(2013265920, 2013331456), range(2013331456, 2013331457)]


def node(spec: MachineSpec) -> MachineSpec:
    return replace(spec, privileged=True)


def test_nodes_alone_are_the_hosts_root() -> None:
    plan = replace(PLAN, machines=(node(CLOUD), EDGE))
    assert isolation.of_machines(plan, None) == {
        CLOUD.name: isolation.PRIVILEGED,
        EDGE.name: isolation.USER_NAMESPACE,
    }
    mapped, privileged = isolation.remarks(plan, None)
    assert mapped.startswith("1 machine in a user namespace of its own")
    assert privileged.startswith("1 machine of the cluster: root inside is root on this host")


def test_where_ids_cannot_be_mapped_that_is_said_with_the_reason() -> None:
    plan = replace(PLAN, machines=(CLOUD, EDGE))
    assert set(isolation.of_machines(plan, "no").values()) == {isolation.PRIVILEGED}
    (said,) = isolation.remarks(plan, "user.max_user_namespaces is 0")
    assert said.startswith("2 machines without a user namespace")
    assert said.endswith("user.max_user_namespaces is 0")


@pytest.mark.parametrize(
    ("release", "able"),
    [("5.10.0-8-amd64", False), ("5.18.19", False), ("5.19.0", True), ("6.1.0-40", True)],
)
def test_the_kernel_tells_what_it_can(
    release: str, able: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    switch = tmp_path / "max_user_namespaces"
    monkeypatch.setattr(isolation, "_NAMESPACES", switch)
    assert isolation.obstacle() is not None  # It has none at all.
    switch.write_text("0\n")
    assert isolation.obstacle() is not None
    switch.write_text("1000\n")
    assert (isolation.obstacle() is None) is able
