from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from continuum.errors import StepFailed
from continuum.infrastructure.host import machine_files, names
from continuum.infrastructure.host.cgroups import ControlGroups
from continuum.infrastructure.host.console import last_lines
from continuum.infrastructure.host.keys import KeyPair
from continuum.infrastructure.plan import InfrastructurePlan, MachineSpec
from continuum.infrastructure.providers.lxc import config, containers, hook
from continuum.infrastructure.providers.lxc.config import Container, Ground, Host
from made_up_plans import CLOUD, EDGE, PLAN

GOLDEN = Path(__file__).parents[1] / "golden" / "lxc"
GROUPS = Path("/sys/fs/cgroup")
ALL = ("cpu", "cpuset", "memory", "io", "pids", "devices")
VERSION_1 = Host(
    ControlGroups(
        dict.fromkeys(ALL, 1),
        folders={name: GROUPS / {"io": "blkio"}.get(name, name) for name in ALL},
        swap_limit=True,
    ),
    disk="8:0",
)
VERSION_2 = Host(
    ControlGroups(dict.fromkeys(ALL, 2), folders=dict.fromkeys(ALL, GROUPS), swap_limit=True),
    disk="259:0",
    ipv6=False,
)

LAYERS = (Path("/cache/images/tree-1/root"), Path("/cache/images/base-1/root"))


@pytest.fixture(autouse=True)
def _architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def configured(
    spec: MachineSpec,
    host: Host,
    plan: InfrastructurePlan = PLAN,
    first_id: int | None = 2_052_456_448,
) -> str:
    container = Container.of(spec.name, Path("/state/offload/machines"), plan.identity)
    made_of = config.spec_fingerprint(plan, spec, (1, 2))
    ground = Ground(LAYERS, first_id)
    return config.header(made_of) + config.lxc_config(plan, spec, container, ground, host)


@pytest.mark.parametrize(
    ("file", "spec", "host", "first_id"),
    [
        ("groups-1.conf", EDGE, VERSION_1, 2_052_456_448),
        ("groups-2.conf", EDGE, VERSION_2, 2_052_456_448),
        ("nested.conf", CLOUD, VERSION_1, 2_052_456_448),
        ("internet.conf", EDGE, VERSION_2, 2_052_456_448),
        ("privileged.conf", EDGE, VERSION_2, None),
        ("privileged-nested.conf", CLOUD, VERSION_1, None),
    ],
)
def test_configuration(file: str, spec: MachineSpec, host: Host, first_id: int | None) -> None:
    plan = replace(PLAN, network=replace(PLAN.network, internet=file == "internet.conf"))
    assert configured(spec, host, plan, first_id) == (GOLDEN / file).read_text()


def test_system_calls_on_the_kernel_that_all_share_are_forbidden() -> None:
    for spec in (EDGE, CLOUD):
        for mapped in (True, False):
            rules = config.system_calls(spec, mapped=mapped).splitlines()
            assert rules[:2] == ["2", "denylist"]
            assert {"kexec_load errno 1", "init_module errno 1", "swapoff errno 1"} <= set(rules)
            # Containers in a machine without a user namespace limit devices by such programs.
            assert ("bpf errno 1" in rules) is (mapped or not spec.nested)


@pytest.mark.parametrize(
    ("file", "spec", "host"),
    [
        ("hook-1", EDGE, VERSION_1),
        ("hook-2", EDGE, VERSION_2),
        ("hook-1-nested", CLOUD, VERSION_1),
    ],
)
def test_hook(file: str, spec: MachineSpec, host: Host) -> None:
    group = config.machine_group(PLAN.identity, spec.name)
    assert hook.script(spec, host.groups, host.disk, group) == (GOLDEN / file).read_text()


def run_hook(name: str, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As LXC would."""
    return subprocess.run(
        ["/bin/sh", "-c", script, "hook", "ctm-0badcafe-edge-1", "lxc", name],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hook_sets_disk_rates_on_the_machines_own_group(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("memory", "cpu", "io")}
    groups = ControlGroups(dict.fromkeys(folders, 1), folders=folders)
    for folder in folders.values():
        (folder / "group" / "inside").mkdir(parents=True)
    shown = folders["memory"] / "group/inside/memory.limit_in_bytes"
    shown.touch()
    script = hook.script(EDGE, groups, "8:0", "group")
    ended = run_hook("start-host", script)
    assert ended.returncode == 0, ended.stderr
    assert shown.read_text() == f"{2**30}\n"
    # What is only shown may be missing; what limits may not.
    assert not (folders["cpu"] / "group/inside/cpu.cfs_quota_us").exists()
    rates = folders["io"] / "group/inside"
    assert (rates / "blkio.throttle.read_bps_device").read_text() == "8:0 50000000\n"
    assert (rates / "blkio.throttle.write_bps_device").read_text() == "8:0 20000000\n"
    shutil.rmtree(folders["io"])
    assert run_hook("start-host", script).returncode != 0


def test_a_machine_sees_no_hierarchy_of_disks_where_its_rates_would_not_be_inherited() -> None:
    script = hook.script(EDGE, VERSION_1.groups, "8:0", "group")
    assert "umount" in script
    assert "mount -t tmpfs -o ro," in script
    for spec, host, disk in (
        (EDGE, VERSION_2, "8:0"),
        (EDGE, VERSION_1, None),
        (replace(EDGE, disk_read=None, disk_write=None), VERSION_1, "8:0"),
    ):
        other = hook.script(spec, host.groups, disk, "group")
        assert "mount " not in other
        assert "blkio" not in other


def test_a_path_with_a_space_reaches_the_hook() -> None:
    lines = hook.config_lines(Path("/a state/hook"), EDGE, VERSION_2.groups, None)
    assert lines == ["lxc.hook.start-host = /bin/sh '/a state/hook'"]


def test_hosts_file() -> None:
    assert machine_files.hosts_file(PLAN) == (GOLDEN / "hosts").read_text()


def test_the_quota_covers_all_cores_together() -> None:
    assert "lxc.cgroup2.cpu.max = 30000 20000" in config.limits(EDGE, VERSION_2)


def test_limits_that_the_host_lacks_are_named_and_left_out() -> None:
    nothing = Host(ControlGroups({}))
    assert config.limits(EDGE, nothing) == []
    missing = " ".join(config.missing_controllers(PLAN, nothing))
    assert all(word in missing for word in ("cpu", "memory", "cpuset", "io"))
    assert config.missing_controllers(PLAN, VERSION_1) == []
    no_disk = replace(VERSION_1, disk=None)
    assert "disk rates" in " ".join(config.missing_controllers(PLAN, no_disk))


def test_a_machine_is_replaced_exactly_when_what_it_is_made_of_differs() -> None:
    same = config.spec_fingerprint(PLAN, EDGE, (1, 2))
    assert same == config.spec_fingerprint(replace(PLAN, machines=(EDGE,)), EDGE, (1, 2))
    others = {
        config.spec_fingerprint(PLAN, replace(EDGE, memory=2**29), (1, 2)),
        config.spec_fingerprint(replace(PLAN, image="f" * 16), EDGE, (1, 2)),
        config.spec_fingerprint(PLAN, EDGE, (1, 3)),
        config.spec_fingerprint(
            replace(PLAN, network=replace(PLAN.network, internet=True)), EDGE, (1, 2)
        ),
    }
    assert len(others | {same}) == 5


def test_interfaces_have_short_names_of_their_own() -> None:
    network = replace(PLAN.network, block=ipaddress.IPv4Network("10.0.0.0/12"))
    specs = [replace(EDGE, address=str(network.block[offset])) for offset in (2, 17, 2**20 - 2)]
    found = {names.interface_name(network, spec, PLAN.identity) for spec in specs}
    assert len(found) == 3
    assert max(map(len, found)) <= 15


def test_private_files_are_private() -> None:
    files = machine_files.files(
        PLAN, EDGE, KeyPair(b"secret", "ssh-ed25519 AAA"), "ssh-ed25519 BBB", ""
    )
    assert files["etc/ssh/ssh_host_ed25519_key"] == (b"secret", 0o600)
    assert files["root/.ssh/authorized_keys"] == (b"ssh-ed25519 BBB\n", 0o600)
    assert files["etc/resolv.conf"] == (b"", 0o644)
    assert files["etc/hostname"][0] == b"edge-1\n"


def test_what_a_container_is_made_of_is_read_back(tmp_path: Path) -> None:
    assert containers.made_of(tmp_path) is None
    (tmp_path / "config").write_text("lxc.uts.name = x\n")
    assert containers.made_of(tmp_path) is None
    (tmp_path / "config").write_text(configured(EDGE, VERSION_1))
    assert containers.made_of(tmp_path) == config.spec_fingerprint(PLAN, EDGE, (1, 2))


def test_files_are_never_put_through_a_link_of_the_machine(tmp_path: Path) -> None:
    outside, upper = tmp_path / "outside", tmp_path / "upper"
    outside.mkdir()
    (outside / "hosts").write_text("the host's own")
    upper.mkdir()
    (upper / "etc").symlink_to(outside)
    containers.put_file(upper, "etc/hosts", b"names", 0o644)
    assert (outside / "hosts").read_text() == "the host's own"
    assert (upper / "etc" / "hosts").read_bytes() == b"names"

    (upper / "etc" / "hosts").unlink()
    (upper / "etc" / "hosts").symlink_to(outside / "hosts")
    containers.put_file(upper, "etc/hosts", b"more", 0o600)
    assert (outside / "hosts").read_text() == "the host's own"
    assert containers.read_file(upper, "etc/hosts") == b"more"
    assert (upper / "etc" / "hosts").stat().st_mode & 0o777 == 0o600
    assert containers.read_file(upper, "etc/none") is None


def test_a_machines_folders_are_open_to_its_programs_whatever_the_umask(tmp_path: Path) -> None:
    kept = tmp_path / "usr"
    kept.mkdir(mode=0o711)
    before = os.umask(0o077)
    try:
        for path in ("etc/ssh/key", "root/.ssh/authorized_keys", "usr/file"):
            containers.put_file(tmp_path, path, b"", 0o600)
    finally:
        os.umask(before)
    modes = {path: (tmp_path / path).stat().st_mode & 0o777 for path in ("etc", "etc/ssh", "usr")}
    assert modes == {"etc": 0o755, "etc/ssh": 0o755, "usr": 0o711}
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root/.ssh").stat().st_mode & 0o777 == 0o700


def test_no_container_of_a_name_that_does_not_run() -> None:
    assert containers.running(Path("/nonexistent/machines")) == []


def test_colours_are_taken_off_the_console(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"one\r\n\x1b[0;32m  OK  \x1b[0m two\r\n\n")
    assert last_lines(log) == "one\n  OK   two"
    assert last_lines(tmp_path / "none") == ""


def test_a_container_that_cannot_start_says_why(tmp_path: Path) -> None:
    container = Container.of("edge-1", tmp_path, PLAN.identity)
    container.folder.mkdir()
    (container.folder / "config").write_text("lxc.no.such.key = 1\n")
    with pytest.raises(StepFailed, match="edge-1") as caught:
        containers.start(container, Ground(LAYERS))
    assert caught.value.where == "container ctm-0badcafe-edge-1"
    assert caught.value.output
