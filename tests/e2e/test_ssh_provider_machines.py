"""Provider `ssh` on machines that exist already: three system containers that the test made itself
stand for them, without a way out to any network, so that this host brings them all they need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from continuum.benchmark.samples import deciding_links, read_links
from continuum.deployment import Deployment
from continuum.events import Events
from continuum.images import sources
from continuum.infrastructure.execute import stored_plan
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.infrastructure.providers.lxc import Lxc
from continuum.infrastructure.providers.ssh import install
from continuum.machine import Command, Machine
from run_reasons import defects

pytestmark = pytest.mark.e2e

HOSTS = """\
name = "sshx-hosts"
[tiers.cloud]
memory = "512 MiB"
[tiers.edge]
cores = 2
memory = "1 GiB"
[tiers.endpoint]
memory = "512 MiB"
"""
EXPERIMENT = """\
name = "sshx-field"

[infrastructure]
provider = "ssh"

[infrastructure.ssh]
machines = {{ {machines} }}
key = "{key}"
accept_new_host_keys = {accept}

{tiers}

[[network.links]]
between = ["edge", "endpoint"]
delay = "10 ms"
rate = "50 Mbit/s"

{more}
"""
BENCHMARK = """\
[benchmark]
application = "image_classification"
workers = "edge"
warmup = "2 s"
duration = "5 s"
"""
SERVICES = """\
[software]
services = ["mqtt", "registry"]
observability = true
"""
UNITS = (
    "mosquitto.service",
    "docker-registry.service",
    "prometheus.service",
    "prometheus-node-exporter.service",
    "machine-exporter.service",
)
USERS = {"pi": "pi ALL=(ALL) NOPASSWD: ALL\n", "guest": ""}


@dataclass
class Field:
    """The machines, as whoever owns them sees them."""

    machines: dict[str, Machine]
    key: Path
    folder: Path

    def text(self, machine: str, *arguments: str) -> str:
        return self.machines[machine].run(Command(arguments)).check().text

    def file(
        self, users: dict[str, str], *, accept: bool = True, more: str = BENCHMARK, name: str = ""
    ) -> Path:
        """An experiment on the tiers of `users`, each machine by the user that it names."""
        path = self.folder / "field.toml"
        listed = (
            f'{tier} = ["{user}@{self.machines[f"{tier}-1"].address}"]'
            for tier, user in users.items()
        )
        text = EXPERIMENT.format(
            machines=", ".join(listed),
            key=self.key,
            accept=str(accept).lower(),
            tiers="\n".join(f"[tiers.{tier}]" for tier in users),
            more=more,
        )
        path.write_text(text.replace("sshx-field", name) if name else text)
        return path

    def snapshot(self, machine: str) -> dict[str, str]:
        """What a deployment could leave on a machine, but for Debian packages."""
        asked = {
            "traffic control": ("tc", "qdisc", "show", "dev", "eth0"),
            "filters": ("tc", "filter", "show", "dev", "eth0"),
            "folders": ("ls", "/opt", "/root", "/home"),
            "ours": ("find", "/etc", "/var/lib", "/opt", "/run", "-iname", "*continuum*"),
            "data": ("find", "/var/lib", "-type", "f", "-path", "/var/lib/prometheus/*"),
            "folders of containers": ("find", "/etc", "-maxdepth", "1", "-name", "containerd"),
            "names": ("cat", "/etc/hosts"),
            "units": ("systemctl", "list-unit-files", "--state=enabled", "--no-legend"),
            "kernel": (
                *("sysctl", "net.ipv4.tcp_slow_start_after_idle"),
                "net.ipv4.tcp_no_metrics_save",
            ),
        }
        found = {what: self.text(machine, *arguments) for what, arguments in asked.items()}
        running = self.text(machine, "ps", "-eo", "args").splitlines()
        words = ("continuum", "mosquitto", "python", "prometheus", "registry")
        found["processes"] = "\n".join(
            line for line in running if any(word in line for word in words)
        )
        return found


@pytest.fixture(scope="module")
def field(shared: Any) -> Field:
    """Machines as their owner has set them up: a user with sudo and one without on the edge."""
    path = shared.folder / "hosts.toml"
    path.write_text(HOSTS)
    shared("up", path)
    deployment = Deployment("sshx-hosts", shared.state / "continuum" / "deployments")
    plan = stored_plan(deployment)
    assert plan is not None
    handles = Lxc(PluginSettings(), Events()).machines(deployment, plan)
    machines = {machine.name: machine for machine in handles}
    found = Field(machines, deployment.folder / "ssh" / "key", shared.folder)
    for name in machines:
        found.text(name, "rm", "-r", "/opt/continuum")
    edge = machines["edge-1"]
    status = edge.get("/var/lib/dpkg/status")
    debs = install._fetch(sources.read(), sources.architecture(), status, ["sudo"])
    for deb in debs:
        edge.put(deb.read_bytes(), f"/tmp/{deb.name}")  # noqa: S108  in the machine
    found.text("edge-1", "dpkg", "--install", *(f"/tmp/{deb.name}" for deb in debs))  # noqa: S108
    public = found.key.with_suffix(".pub").read_bytes()
    for user, rules in USERS.items():
        found.text("edge-1", "useradd", "--create-home", "--shell", "/bin/bash", user)
        edge.put(public, f"/home/{user}/.ssh/authorized_keys")
        edge.put(rules.encode(), f"/etc/sudoers.d/{user}", mode=0o440)
    return found


def test_a_benchmark_on_machines_that_exist(shared: Any, field: Field, tmp_path: Path) -> None:
    """Taken into use, measured, not changed by a second `up`, and left as they were."""
    before = {name: field.snapshot(name) for name in field.machines}
    experiment = field.file({"edge": "pi", "endpoint": "root"})
    told = shared("plan", experiment, "--detailed-exitcode", code=6)
    assert "not enforced" in told.out
    assert {name: field.snapshot(name) for name in field.machines} == before
    shared("run", experiment, "--results", tmp_path / "out", "--accept-links")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert defects(run) == []
    assert run["provider"] == "ssh"
    assert not run["clock"]["one_clock"]
    addresses = {each["name"]: each["address"] for each in run["machines"]}
    assert addresses["edge-1"] == field.machines["edge-1"].address
    samples = pq.read_table(tmp_path / "out" / "samples.parquet").to_pydict()
    assert set(samples["status"]) == {"ok"}
    links = deciding_links(read_links(tmp_path / "out" / "links.parquet"))
    assert {(each["from_tier"], each["quantity"]) for each in links} >= {
        (tier, quantity) for tier in ("edge", "endpoint") for quantity in ("delay_ms", "rate_mbit")
    }
    assert sum(not each["ok"] for each in links) <= 1, links

    # By name, as the machines themselves know each other; and by SSH, as the deployment does.
    said = shared("exec", "sshx-field", "endpoint-1", "--", "getent", "hosts", "edge-1")
    assert addresses["edge-1"] in said.out
    assert shared("ssh", "sshx-field", "edge-1", "--", "id", "-un").out.strip() == "pi"
    status = json.loads(shared("status", "sshx-field", "--json").out)
    (one,) = status if isinstance(status, list) else status["deployments"]
    assert [each["state"] for each in one["machines"]] == ["running", "running"]
    assert one["links_in_force"] == one["links_asked"] == 2

    again = shared("up", experiment)
    assert "nothing was changed" in again.out + again.err
    shared("plan", experiment, "--detailed-exitcode", code=0)

    # Another deployment may not have them meanwhile.
    users = {"edge": "pi", "endpoint": "root"}
    other = shared("up", field.file(users, more="", name="sshx-other"), code=3)
    assert 'deployment "sshx-field"' in other.err

    shared("down", "sshx-field")
    assert {name: field.snapshot(name) for name in field.machines} == before


def test_services_stop_when_they_are_wanted_no_more(shared: Any, field: Field) -> None:
    """With the next `up`, and by `down`; in both cases nothing of them stays but packages."""

    def running() -> list[str]:
        shown = field.machines["edge-1"].run(Command(("systemctl", "is-active", *UNITS)))
        return [
            unit for unit, state in zip(UNITS, shown.text.split(), strict=True) if state == "active"
        ]

    users = {"edge": "pi", "endpoint": "root"}
    before = {name: field.snapshot(name) for name in field.machines}
    shared("up", field.file(users, more=SERVICES))
    assert running() == list(UNITS)
    assert field.snapshot("edge-1")["data"] != before["edge-1"]["data"]
    shared("up", field.file(users, more='[software]\nservices = ["registry"]\n'))
    assert running() == ["docker-registry.service"]
    now = field.snapshot("edge-1")
    assert now["data"] == before["edge-1"]["data"]
    assert "machine-exporter" not in now["units"]
    # The same machine by another name: it is left, and taken into use again.
    experiment = field.file(users | {"edge": "root"}, more=SERVICES)
    shared("up", experiment)
    assert running() == list(UNITS)
    again = shared("up", experiment)
    assert "nothing was changed" in again.out + again.err
    shared("down", "sshx-field")
    assert running() == []
    assert {name: field.snapshot(name) for name in field.machines} == before


def test_machines_that_will_not_do_are_named_at_once(shared: Any, field: Field) -> None:
    users = {"cloud": "root", "edge": "guest", "endpoint": "root"}
    unfit = shared("up", field.file(users), code=3)
    assert "edge-1 (guest@" in unfit.err
    assert "sudo" in unfit.err
    unknown = shared("up", field.file(users, accept=False), code=4)
    assert unknown.err.count("host key") >= 3
    assert "accept_new_host_keys" in unknown.err
    silent = field.file({"cloud": "nobody", "edge": "guest", "endpoint": "root"})
    refused = shared("plan", silent, code=4)
    assert "cloud-1 (nobody@" in refused.err
    assert "edge-1 (guest@" in refused.err
    assert not (shared.state / "continuum" / "deployments" / "sshx-field").exists()


def test_down_with_a_machine_that_is_gone_leaves_the_others(shared: Any, field: Field) -> None:
    """And finishes when it is back."""
    before = {name: field.snapshot(name) for name in field.machines}
    experiment = field.file({"edge": "root", "endpoint": "root"}, more="")
    shared("up", experiment)
    field.text("edge-1", "systemctl", "stop", "ssh.service", "ssh.socket")
    assert "edge-1" in shared("plan", experiment, code=4).err
    left = shared("down", "sshx-field", code=4)
    assert "edge-1 (root@" in left.err
    assert field.snapshot("endpoint-1") == before["endpoint-1"]
    assert "ctm-links" in field.text("edge-1", "systemctl", "list-units", "--plain")
    field.text("edge-1", "systemctl", "start", "ssh.service")
    shared("down", "sshx-field")
    assert {name: field.snapshot(name) for name in field.machines} == before
