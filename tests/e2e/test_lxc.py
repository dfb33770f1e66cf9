"""Provider `lxc` and machine images, on this host."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from continuum.deployment import Deployment
from continuum.errors import MachineUnreachable, NotFound, NotPossibleHere, StepFailed, TimedOut
from continuum.events import Event, Events
from continuum.experiment.model import Tier
from continuum.images import build, store
from continuum.images.recipe import RUNTIME_FOLDER, Recipe
from continuum.images.runtime import runtime_tree
from continuum.infrastructure import proofs
from continuum.infrastructure.host import cgroups, disks, ssh_config
from continuum.infrastructure.plan import InfrastructurePlan
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc, config, containers, mapped_root
from continuum.infrastructure.providers.lxc.machine import LxcMachine
from continuum.machine import Command, Machine
from lxc_lab import SMALL, Lab
from side_by_side import nothing_left

pytestmark = pytest.mark.e2e

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[str], Lab]]:
    """Makes deployments; afterwards the host must be as it was before."""
    image = Lxc(PluginSettings(), Events()).build_image(Recipe.collect([runtime_tree()]))
    made: list[Lab] = []

    def make(name: str = "lab") -> Lab:
        deployment = Deployment(name, tmp_path / ".state" / "continuum" / "deployments")
        made.append(Lab(deployment, Lxc(PluginSettings(), Events()), image))
        return made[-1]

    with nothing_left():
        yield make
        for each in made:
            each.provider.destroy(each.deployment)
            locks = Path("/run/lxc/lock", str(each.deployment.folder).lstrip("/"))
            assert not locks.exists()
            assert each.deployment.name not in each.provider.leftovers(each.deployment.root)
            # Once more: of what is gone there is nothing to remove.
            each.provider.destroy(each.deployment)


def environment() -> dict[str, str]:
    """For a Python of our own, on this source tree."""
    paths = [str(SRC), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def text(machine: Machine, *arguments: str) -> str:
    return machine.run(Command(arguments)).check().text


def reaches(machine: Machine, address: str, port: int) -> bool:
    """Whether a TCP connection comes about."""
    program = f"import socket; socket.create_connection(({address!r}, {port}), 1)"
    return machine.run(Command(("python3", "-c", program))).exit_code == 0


# -- the way in ----------------------------------------------------------------------------------


def test_ssh_lets_in_by_the_deployments_key_alone(lab: Callable[..., Lab], tmp_path: Path) -> None:
    here = lab()
    plan = here.plan()
    assert here.up(plan) == ["edge-1", "edge-2"]
    assert here.ssh("edge-1", "hostname").stdout == "edge-1\n"
    assert here.ssh("edge-1", "ping", "-c1", "-W2", "edge-2").returncode == 0

    by_password = ("-o", "PreferredAuthentications=password,keyboard-interactive")
    no_master = ("-o", "ControlPath=none")
    refused = here.ssh(*no_master, *by_password, "-o", "PasswordAuthentication=yes", "edge-1", "id")
    assert (refused.returncode, "Permission denied (publickey)" in refused.stderr) == (255, True)
    other_key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other_key], check=True)
    refused = here.ssh(*no_master, "-F", "none", "-i", str(other_key), "-o", "BatchMode=yes",
                       "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                       f"root@{plan.machines[0].address}", "id")  # fmt: skip
    assert refused.returncode == 255

    # Another machine's host key at this address is noticed.
    known = here.deployment.folder / "ssh" / "known_hosts"
    first, second = known.read_text().splitlines()
    known.write_text(f"{first.split()[0]} {' '.join(second.split()[1:])}\n")
    assert "Host key verification failed" in here.ssh(*no_master, "edge-1", "id").stderr

    private = [path for path in (here.deployment.folder / "ssh").rglob("*") if path.is_file()]
    assert len(private) >= 6
    for path in private:
        secret = path.suffix != ".pub" and path.name != "known_hosts"
        assert not secret or path.stat().st_mode & 0o777 == 0o600, path


def test_a_machine_is_a_whole_system_of_its_own(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan()
    here.up(plan)
    first, second = here.machines(plan)
    assert text(first, "systemctl", "is-system-running", "--wait") == "running"
    assert text(first, "cat", "/proc/1/comm") == "systemd"
    assert text(first, "cat", "/etc/resolv.conf") == ""
    assert text(first, "cat", "/etc/machine-id") != text(second, "cat", "/etc/machine-id")
    host_keys = [text(each, "cat", "/etc/ssh/ssh_host_ed25519_key.pub") for each in (first, second)]
    assert host_keys[0] != host_keys[1]
    assert "inet6" not in text(first, "ip", "address", "show", "dev", "eth0")
    assert text(first, "ip", "route", "show", "default") == ""
    # No way to the host's disks.
    mknod = first.run(Command(("mknod", "/root/disk", "b", "8", "0")))
    opened = first.run(Command(("head", "-c1", "/root/disk")))
    assert mknod.exit_code != 0 or opened.exit_code != 0


def test_commands_and_files(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL})
    here.up(plan)
    (machine,) = here.machines(plan)
    result = machine.run(Command(("cat",), input=b"\0\xff"))
    assert (result.exit_code, result.stdout) == (0, b"\0\xff")
    assert machine.run(Command(("python3", "-c", "exit(7)"))).exit_code == 7
    environment = machine.run(Command(("env",), environment={"WORD": "two words"})).text
    assert "WORD=two words" in environment.splitlines()
    assert "XDG_STATE_HOME" not in environment
    with pytest.raises(TimedOut, match="`sleep 600`"):
        machine.run(Command(("sleep", "600"), timeout=0.3))
    # Killed; a zombie may wait for this host's init.
    left = machine.run(Command(("ps", "--no-headers", "-o", "stat", "-C", "sleep"))).text
    assert all(state.startswith("Z") for state in left.split())

    machine.put(b"content", "/srv/new/folder/file", mode=0o640)
    assert machine.get("/srv/new/folder/file") == b"content"
    assert text(machine, "stat", "-c", "%a %U", "/srv/new/folder/file") == "640 root"
    machine.put(b"", "/srv/new/folder/file")
    assert machine.get("/srv/new/folder/file") == b""
    assert text(machine, "ls", "-A", "/srv/new/folder") == "file"
    with pytest.raises(NotFound):
        machine.get("/srv/none")
    with pytest.raises(StepFailed):
        machine.put(b"", "/proc/none/file")
    lines = machine.stream(
        Command(("python3", "-uc", "import sys;print(1);print(2,file=sys.stderr)"))
    )
    assert list(lines) == ["1", "2"]


# -- limits --------------------------------------------------------------------------------------


def test_limits_are_in_force(lab: Callable[..., Lab]) -> None:
    here = lab()
    tier = Tier.model_validate(
        {"quota": 0.5, "memory": "200 MiB", "disk_read": "30 MB/s", "disk_write": "20 MB/s"}
    )
    plan = here.plan({"edge": tier})
    spec = replace(plan.machines[0], pinned_cores=(0,))
    plan = replace(plan, machines=(spec,))
    here.up(plan)
    (machine,) = here.machines(plan)
    assert text(machine, "nproc") == "1"
    groups = cgroups.detect()
    name = f"{config.group(plan.identity)}/{spec.name}/machine"
    folders = cgroups.folders_of(groups, name)

    def limit(file: str) -> str:
        (path,) = (folder / file for folder in folders if (folder / file).exists())
        return path.read_text().strip()

    if groups.versions["cpu"] == 1:
        assert limit("cpu.cfs_quota_us") == "10000"
        assert limit("cpu.cfs_period_us") == "20000"
    else:
        assert limit("cpu.max") == "10000 20000"
    if groups.versions["memory"] == 1:
        assert limit("memory.limit_in_bytes") == f"{200 * 2**20}"
    else:
        assert limit("memory.max") == f"{200 * 2**20}"
    if groups.versions["io"] == 2:
        assert "rbps=30000000 wbps=20000000" in limit("io.max")
    assert limit("pids.max") == f"{config.PROCESS_LIMIT}"

    too_much = machine.run(Command(("python3", "-c", "x = b'1' * (300 * 2**20)")))
    assert too_much.exit_code == 137
    # They are measured from inside, as `up` does it: also those of its disk.
    proved = {each.limit: each for each in proofs_of(here, plan)}
    assert set(proved) == {"cores", "cpu_pin", "memory", "disk_read", "disk_write"}
    assert all(each.final for each in proved.values()), list(map(str, proved.values()))
    assert {proved[name].verdict for name in ("memory", "cpu_pin")} == {"holds"}
    # The machine's own root shows what it has to whoever looks there.
    probe = "from continuum_runtime.limit_probe import limit_in_force as l; print(l())"
    shown = Command(("python3", "-c", probe), environment={"PYTHONPATH": RUNTIME_FOLDER})
    assert machine.run(shown).check().text == f"{200 * 2**20}"
    quota, period = (
        (machine.get(f"/sys/fs/cgroup/cpu/cpu.cfs_{word}_us") for word in ("quota", "period"))
        if groups.versions["cpu"] == 1
        else machine.get("/sys/fs/cgroup/cpu.max").split()
    )
    assert int(quota) / int(period) == 0.5
    # The limits themselves are out of the machine's reach.
    groups_inside = machine.run(Command(("find", "/sys/fs/cgroup", "-name", spec.name)))
    assert groups_inside.text == ""


def proofs_of(lab: Lab, plan: InfrastructurePlan, *limits: str) -> list[proofs.LimitProof]:
    """What its machines' limits measure now: those limits, or all."""
    able = Lxc.capabilities
    todo = {
        machine: {name: value for name, value in asked.items() if name in limits or not limits}
        for machine, asked in proofs.pending(plan, able, (), ()).items()
    }
    return proofs.prove(plan, lab.machines(plan), todo, able, lambda _: None)


def test_the_disk_rate_holds_in_every_group_of_a_machine_and_its_loss_is_seen(
    lab: Callable[..., Lab],
) -> None:
    here = lab()
    plan = here.plan({"edge": Tier.model_validate({"disk_write": "20 MB/s"})})
    here.up(plan)
    (machine,) = here.machines(plan)
    # A unit with rates of its own and groups of its own.
    text(machine, "systemd-run", "--unit=writes", "-p", "Delegate=yes", "-p", "RemainAfterExit=yes",
         "-p", "IOWriteBandwidthMax=/var 1G", "dd", "if=/dev/zero", "of=/var/tmp/file", "bs=256k",
         "count=40", "oflag=direct")  # fmt: skip
    # The first tenth of a second goes through at once.
    wait_until(lambda: text(machine, "systemctl", "show", "-PSubState", "writes") == "exited")
    log = text(machine, "journalctl", "--unit=writes", "--output=cat")
    (written,) = re.findall(r"copied, ([\d.e-]+) s", log)
    assert 40 * 256 * 1024 / float(written) <= 1.3 * 20e6
    (proof,) = proofs_of(here, plan, "disk_write")
    assert proof.final, str(proof)

    groups = cgroups.detect()
    spec = plan.machines[0]
    version = groups.versions["io"]
    folder = groups.folders["io"] / config.machine_group(plan.identity, spec.name)
    assert version == 2 or not [each for each in (folder / "inside").iterdir() if each.is_dir()]
    disk = disks.disk_of(here.deployment.root)
    if version == 1:
        (folder / "inside" / "blkio.throttle.write_bps_device").write_text(f"{disk} 0")
    else:
        (folder / "io.max").write_text(f"{disk} wbps=max")
    (broken,) = proofs_of(here, plan, "disk_write")
    assert broken.verdict == "does not hold", str(broken)
    with pytest.raises(NotPossibleHere, match="do not hold"):
        proofs.refuse([broken])


def test_the_smallest_machine_boots(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"edge": Tier.model_validate({"quota": 0.1, "memory": "64 MiB"})})
    assert here.up(plan) == ["edge-1"]
    assert here.ssh("edge-1", "hostname").stdout == "edge-1\n"


def test_a_unit_in_a_machine_can_be_limited_further(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL})
    here.up(plan)
    (machine,) = here.machines(plan)
    text(machine, "systemd-run", "--unit=probe", "-p", "CPUQuota=20%", "-p", "MemoryMax=50M",
         "sleep", "100")  # fmt: skip
    found = [
        path.read_text().strip()
        for folder in cgroups.folders_of(cgroups.detect(), config.group(plan.identity))
        for path in folder.rglob("probe.service/*")
        if path.name in ("cpu.max", "cpu.cfs_quota_us", "memory.max", "memory.limit_in_bytes")
    ]
    assert sorted(each.split(" ")[0] for each in found) == ["20000", str(50 * 2**20)]


def test_a_nested_machine_may_do_what_containers_need(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"cloud": SMALL})
    plan = replace(plan, machines=(replace(plan.machines[0], nested=True),))
    here.up(plan)
    (machine,) = here.machines(plan)
    lower = "/var/lib/containerd/lower"
    folders = [lower, *(f"/var/lib/containerd/{name}" for name in ("upper", "work", "point"))]
    text(machine, "mkdir", *folders)
    options = f"lowerdir={lower},upperdir={folders[1]},workdir={folders[2]}"
    text(machine, "mount", "-t", "overlay", "overlay", "-o", options, folders[3])
    text(machine, "unshare", "--net", "--mount", "--pid", "--fork", "ip", "link")


# -- closed to the outside -----------------------------------------------------------------------


def test_two_deployments_do_not_see_each_other_nor_the_hosts_ports(
    lab: Callable[..., Lab],
) -> None:
    one, two = lab("one"), lab("two")
    plan_one, plan_two = one.plan(), None
    one.up(plan_one)
    plan_two = two.plan()
    assert not plan_one.network.block.overlaps(plan_two.network.block)
    two.up(plan_two)
    machine = one.machines(plan_one)[0]
    sibling, stranger = plan_one.machines[1].address, plan_two.machines[0].address
    assert reaches(machine, sibling, 22)
    # Even with a route: what the machine's root can do is not what closes the network.
    text(machine, "ip", "route", "add", "default", "via", plan_one.network.host_address)
    assert not reaches(machine, stranger, 22)
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        for host in (plan_one.network.host_address, plan_two.network.host_address):
            assert not reaches(machine, host, port)
    assert (
        machine.run(Command(("ping", "-c1", "-W2", plan_one.network.host_address))).exit_code == 0
    )
    one.provider.destroy(one.deployment)
    assert two.states() == {"edge-1": "running", "edge-2": "running"}
    assert two.ssh("edge-1", "true").returncode == 0


def test_a_foreign_bridge_is_never_touched(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan()
    bridge = plan.network.bridge
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        with pytest.raises(StepFailed, match=bridge) as caught:
            here.up(plan)
        assert "not ours" in caught.value.message
        here.provider.destroy(here.deployment)
        assert Path("/sys/class/net", bridge).exists()
    finally:
        subprocess.run(["ip", "link", "delete", bridge], check=True)


def test_a_foreign_container_of_the_same_name_is_never_touched(
    lab: Callable[..., Lab], tmp_path: Path
) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL})
    here.up(plan)
    name = f"ctm-{plan.identity}-edge-1"
    ours = here.deployment.folder / "machines"
    foreign, group = tmp_path / "foreign", f"foreign-{plan.identity}"
    (foreign / name / "upper").mkdir(parents=True)
    rootfs = "overlay:" + ":".join(
        map(str, (*store.find(here.image).layers, foreign / name / "upper"))
    )
    kept = [
        line.replace(str(ours), str(foreign))
        .replace(config.group(plan.identity), group)
        .replace(f"dir:{mapped_root.ROOT}", rootfs)
        for line in (ours / name / "config").read_text().splitlines()
        if not line.startswith(
            ("#", "lxc.net", "lxc.sysctl", "lxc.hook", "lxc.seccomp", "lxc.idmap")
        )
    ]
    (foreign / name / "config").write_text("\n".join([*kept, "lxc.net.0.type = empty", ""]))
    subprocess.run(["lxc-start", "-d", "-P", foreign, "-n", name], check=True, timeout=60)
    try:
        here.provider.destroy(here.deployment)
        assert f"[lxc monitor] {foreign} {name}" in "".join(processes_naming(name))
        assert (foreign / name / "config").exists()
        # It bears such a name, and no group of ours: it is none of ours.
        assert containers.running(foreign) == []
    finally:
        subprocess.run(["lxc-stop", "-k", "-P", foreign, "-n", name], check=True, timeout=60)
        for folder in cgroups.folders_of(cgroups.detect(), group):
            cgroups.remove(folder)
        shutil.rmtree(Path("/run/lxc/lock") / str(foreign).lstrip("/"), ignore_errors=True)


# -- repeatable ----------------------------------------------------------------------------------


def test_a_second_create_changes_nothing_and_a_changed_plan_only_the_difference(
    lab: Callable[..., Lab],
) -> None:
    here = lab()
    plan = here.plan()
    here.up(plan)
    inits = [here.init("edge-1"), here.init("edge-2")]
    assert not here.provider.create_network(here.deployment, plan)
    assert here.up(plan) == []
    assert [here.init("edge-1"), here.init("edge-2")] == inits

    three = here.plan({"edge": SMALL.model_copy(update={"machines": 3})})
    assert here.up(three) == ["edge-3"]
    assert [here.init("edge-1"), here.init("edge-2")] == inits
    first = here.machines(three)[0]
    assert "edge-3" in first.get("/etc/hosts").decode()
    assert here.ssh("edge-3", "hostname").stdout == "edge-3\n"

    more = replace(three, machines=(replace(three.machines[0], memory=2**29), *three.machines[1:2]))
    assert here.up(more) == ["edge-1", "edge-3"]
    assert here.states() == {"edge-1": "running", "edge-2": "running"}
    assert here.init("edge-2") == inits[1]
    assert "edge-3" not in here.machines(more)[1].get("/etc/hosts").decode()


def test_what_has_stopped_is_started_again_with_its_files(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan()
    here.up(plan)
    first, second = here.machines(plan)
    first.put(b"kept", "/srv/file")
    os.kill(here.init("edge-1"), signal.SIGKILL)
    second.run(Command(("systemctl", "poweroff")))
    wait_until(lambda: set(here.states().values()) == {"stopped"})
    with pytest.raises(MachineUnreachable):
        first.run(Command(("true",)))
    # As after a restart of the host: the bridge and its rules are gone too.
    subprocess.run(["ip", "link", "delete", plan.network.bridge], check=True)
    assert here.up(plan) == ["edge-1", "edge-2"]
    assert first.get("/srv/file") == b"kept"
    assert here.ssh("edge-2", "ping", "-c1", "-W2", "edge-1").returncode == 0


def test_a_machine_whose_monitor_was_killed_is_started_again_with_its_files(
    lab: Callable[..., Lab],
) -> None:
    here = lab()
    plan = here.plan()
    here.up(plan)
    first, second = here.machines(plan)
    first.put(b"kept\n", "/root/kept")
    folder = here.deployment.folder / "machines"
    monitor = next(
        each for each in containers.running(folder) if each.name.endswith(f"-{first.name}")
    )
    assert monitor.init is not None
    os.kill(monitor.monitor, signal.SIGKILL)
    wait_until(lambda: here.states()[first.name] == "stopped")
    # What ran in it runs on, by itself, and holds its group and its interface.
    assert Path(f"/proc/{monitor.init}").exists()
    assert here.up(plan) == [first.name]
    assert here.states() == {first.name: "running", second.name: "running"}
    # It has ended; who has to take note of that is not LXC any more.
    with suppress(FileNotFoundError):
        assert "\nState:\tZ" in Path(f"/proc/{monitor.init}/status").read_text()
    assert first.get("/root/kept") == b"kept\n"
    assert here.ssh(first.name, "true").returncode == 0
    assert here.up(plan) == []


def test_a_network_that_is_not_whole_is_told_and_mended(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL})
    here.up(plan)
    provider, deployment = here.provider, here.deployment
    assert provider.network_missing(deployment, plan) == []
    rules = subprocess.run(["iptables-save"], check=True, capture_output=True, text=True).stdout
    ours = [line for line in rules.splitlines() if f"continuum {plan.identity} " in line]
    for line in ours[:3]:
        subprocess.run(["iptables", *shlex.split(line.replace("-A ", "-D ", 1))], check=True)
    (told,) = provider.network_missing(deployment, plan)
    assert told == f"3 of {len(ours)} rules that close the network are not in force"
    subprocess.run(["ip", "link", "set", plan.network.bridge, "down"], check=True)
    assert provider.network_missing(deployment, plan)[0] == f"bridge {plan.network.bridge} is down"
    subprocess.run(["ip", "link", "delete", plan.network.bridge], check=True)
    told, _ = provider.network_missing(deployment, plan)
    assert told == f"bridge {plan.network.bridge} is not there"
    here.up(plan)
    assert provider.network_missing(deployment, plan) == []


def test_running_machines_find_their_way_to_a_bridge_made_again(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan()
    here.up(plan)
    inits = [here.init("edge-1"), here.init("edge-2")]
    subprocess.run(["ip", "link", "delete", plan.network.bridge], check=True)
    here.up(plan)
    assert [here.init("edge-1"), here.init("edge-2")] == inits
    assert here.ssh("edge-2", "ping", "-c1", "-W2", "edge-1").returncode == 0


def test_an_image_built_again_replaces_machines_that_stand_on_the_old(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL})
    here.up(plan)
    fingerprint = config.spec_fingerprint
    monkeypatch.setattr(
        config, "spec_fingerprint", lambda *given: fingerprint(given[0], given[1], (0,))
    )
    assert here.up(plan) == ["edge-1"]


# -- removal -------------------------------------------------------------------------------------


def test_everything_is_found_by_its_labels_when_the_files_are_gone(lab: Callable[..., Lab]) -> None:
    here = lab()
    here.up(here.plan())
    here.ssh("edge-1", "true")
    shutil.rmtree(here.deployment.folder)
    assert here.provider.leftovers(here.deployment.root) == [here.deployment.name]
    here.provider.destroy(here.deployment)
    assert here.states() == {}
    assert not ssh_config.control_folder(here.deployment.identity).exists()


CREATE = """
import sys, pickle
from pathlib import Path
from continuum.deployment import Deployment
from continuum.events import Events
from continuum.infrastructure.configure import from_json
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc
deployment = Deployment(sys.argv[1], Path(sys.argv[2]))
plan = from_json(Path(sys.argv[3]).read_bytes())
provider = Lxc(PluginSettings(), Events())
print("network", flush=True)
provider.create_network(deployment, plan)
provider.create(deployment, plan, lambda said: print(said, flush=True))
"""


@pytest.mark.parametrize(
    "said", ["network", "1 of 6 machines", "4 of 6 machines", "SSH answers on 2"]
)
@pytest.mark.parametrize("then", ["create", "destroy"])
def test_killed_while_it_creates(
    lab: Callable[..., Lab], tmp_path: Path, said: str, then: str
) -> None:
    from continuum.infrastructure.configure import to_json

    here = lab()
    plan = here.plan({"edge": SMALL.model_copy(update={"machines": 6})})
    file = tmp_path / "plan.json"
    file.write_text(to_json(plan))
    arguments = (here.deployment.name, str(here.deployment.root), str(file))
    process = subprocess.Popen(
        [sys.executable, "-c", CREATE, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert any(line.startswith(said) for line in process.stdout)
    process.kill()
    process.communicate(timeout=60)
    if then == "create":
        here.up(plan)
        assert set(here.states().values()) == {"running"}
        assert all(text(each, "hostname") == each.name for each in here.machines(plan))
        assert here.ssh("edge-6", "true").returncode == 0


# -- images --------------------------------------------------------------------------------------

BUILD = """
from continuum.events import Events
from continuum.images.build import build
from continuum.images.recipe import Recipe
print(build(Recipe.collect([]), Events([lambda event: print(event, flush=True)])).fingerprint)
"""


def building() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )


def test_an_interrupted_build_does_not_hinder_two_at_once_that_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with nothing_left():
        interrupted = building()
        assert interrupted.stdout is not None
        assert any("installing the essential" in line for line in interrupted.stdout)
        interrupted.kill()
        interrupted.communicate(timeout=60)
        wait_until(lambda: not processes_naming(str(tmp_path)))
    assert list(store.images_folder().glob(".*.building"))

    both = [building(), building()]
    ended = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({output.splitlines()[-1] for output in ended}) == 1
    assert sum("waiting for process" in output for output in ended) == 1
    assert not list(store.images_folder().glob(".*.building"))
    (layer,) = store.find(ended[0].splitlines()[-1]).layers
    assert not list((layer / "etc" / "ssh").glob("ssh_host_*"))
    assert (layer / "etc" / "machine-id").read_text() == ""
    assert re.search(r"^root:[*!]", (layer / "etc" / "shadow").read_text(), re.MULTILINE)
    record = store.record(layer.parent.name)
    assert "openssh-server" in record["packages"]
    assert re.fullmatch(r"3\.\d+", record["python"])


def test_a_full_disk_is_named_and_nothing_is_left_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(small))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", small], check=True)
    try:
        with pytest.raises(StepFailed, match="disk is full") as caught:
            build.build(Recipe.collect([]), Events())
        assert caught.value.where == str(small / "continuum" / "images")
        assert [each.name[-5:] for each in store.images_folder().iterdir()] == [".lock"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_full_disk_under_the_machines_is_named(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL.model_copy(update={"machines": 3})})
    state = here.deployment.root
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state], check=True)
    try:
        with pytest.raises(StepFailed, match="disk is full") as caught:
            here.up(plan)
        assert "XDG_STATE_HOME" in caught.value.hint
    finally:
        here.provider.destroy(here.deployment)
        subprocess.run(["umount", state], check=True)


def test_package_sources_that_do_not_answer_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from continuum.images import sources

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real = sources.read()
    nowhere = replace(real.entries[0], address="http://127.0.0.1:9/none")
    monkeypatch.setattr(sources, "read", lambda: replace(real, entries=(nowhere,)))
    told: list[Event] = []
    with pytest.raises(NotPossibleHere, match="package sources") as caught:
        build.build(Recipe.collect([]), Events([told.append]))
    assert "http://127.0.0.1:9/none" in caught.value.where
    assert caught.value.output
    assert "apt-get update" in caught.value.hint


# -- refusals -------------------------------------------------------------------------------------


def test_a_path_that_overlay_cannot_take_is_refused(lab: Callable[..., Lab]) -> None:
    here = lab()
    plan = here.plan({"edge": SMALL})
    awkward = Deployment("lab", here.deployment.root / "a,b")
    with pytest.raises(NotPossibleHere, match="','"):
        here.provider.create_network(awkward, plan)
    assert isinstance(here.machines(plan)[0], LxcMachine)


def wait_until(condition: Callable[[], bool], limit: float = 30) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def processes_naming(word: str) -> list[str]:
    """Command lines on this host that hold a word; processes that ended but wait do not count."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if word in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found
