"""The registry: where it is, what it is told, and what is put into it."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from continuum.errors import TimedOut
from continuum.experiment.model import Benchmark, Experiment, Software, Tier
from continuum.images.recipe import Recipe
from continuum.machine import Command, Result, run_on_host
from continuum.software.configure import ROLES, configure
from continuum.software.services import registry
from continuum.software.services.registry import Registry
from continuum.testing.software import DeadMachine, small_plan
from continuum_runtime import fill_registry


def experiment(manager: str = "none", model: str = "container") -> Experiment:
    tiers = {"cloud": 1, "edge": 2, "endpoint": 1}
    return Experiment(
        name="registry",
        tiers={name: Tier(machines=count) for name, count in tiers.items()},
        software=Software(manager=manager, execution_model=model, services=("registry",)),
        benchmark=Benchmark(application="command", workers="edge"),
    )


@pytest.mark.parametrize(
    ("manager", "machines"),
    [
        ("none", ("edge-1", "edge-2", "cloud-1")),
        ("kubernetes", ("cloud-1", "edge-1", "edge-2")),
    ],
)
def test_the_control_machine_serves_else_the_first_of_the_workers(
    manager: str, machines: tuple[str, ...]
) -> None:
    wanted = experiment(manager)
    assert Registry().machines(wanted, ("edge-1", "edge-2")) == machines
    (play,) = Registry().configure(wanted, small_plan(wanted), machines)
    serving = [name for name, own in play.per_machine.items() if own["registry_serves"]]
    assert serving == [machines[0]]


def test_every_machine_with_containers_gets_the_role_and_no_endpoint() -> None:
    wanted = experiment()
    plan = configure(wanted, small_plan(wanted))
    assert plan.services["registry"] == ("edge-1", "edge-2", "cloud-1")
    assert "endpoint-1" not in plan.machines


@pytest.mark.parametrize(("model", "holds"), [("container", True), ("process", False)])
def test_it_is_filled_where_there_are_images(model: str, holds: bool) -> None:
    wanted = experiment(model=model)
    (play,) = Registry().configure(wanted, small_plan(wanted), ("edge-1",))
    assert play.variables["registry_holds_images"] is holds


def rendered(template: str) -> str:
    wanted = experiment()
    (play,) = Registry().configure(wanted, small_plan(wanted), ("edge-1", "edge-2"))
    text = (ROLES / "registry" / "templates" / template).read_text()
    variables = {**play.variables, **play.per_machine["edge-1"]}
    done: str = jinja2.Template(text, undefined=jinja2.StrictUndefined).render(variables)
    return done


def test_it_listens_on_the_emulated_network_only() -> None:
    settings = yaml.safe_load(rendered("registry.yml.j2"))
    assert settings["http"] == {"addr": "10.20.1.1:5000"}


def test_containerd_finds_it_under_our_name() -> None:
    settings = tomllib.loads(rendered("hosts.toml.j2"))
    assert settings["server"] == "http://10.20.1.1:5000"
    assert settings["host"] == {"http://10.20.1.1:5000": {"capabilities": ["pull", "resolve"]}}
    assert registry.MIRROR == "/etc/containerd/certs.d/continuum.local/hosts.toml"


def test_what_is_written_goes_from_machines_that_stay() -> None:
    trees = {tree.name: tree for tree in Recipe.collect(Registry().install()).trees}
    settings = yaml.safe_load(rendered("registry.yml.j2"))
    assert trees["registry-unit"].traces == (
        str(Path(registry.MIRROR).parent),
        f"{settings['storage']['filesystem']['rootdirectory']}/*",
    )


def test_the_unit_waits_for_its_configuration(tmp_path: Path) -> None:
    trees = {tree.name: tree for tree in Recipe.collect(Registry().install()).trees}
    tree = trees["registry-unit"]
    tree.write(tmp_path, lambda _: None)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.read_text() == tree.inputs
    assert f"ConditionPathExists={registry.CONFIGURATION}\n" in tree.inputs


class Answers(http.server.BaseHTTPRequestHandler):
    """A registry that has one image, and whose state is the server's."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/v2/" else 404)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/v2/there/manifests/1" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


class Here(DeadMachine):
    """Runs Python on this host, with a file of this test's in place of the mirror's."""

    def __init__(self, mirror: Path) -> None:
        super().__init__()
        self.mirror = mirror

    def run(self, command: Command) -> Result:
        program, *arguments = command.arguments
        assert program == "python3"
        assert arguments[-1] == registry.MIRROR
        arguments[-1] = str(self.mirror)
        return run_on_host(Command((sys.executable, *arguments), timeout=command.timeout))


def test_ready_when_the_machine_reaches_it(server: str, tmp_path: Path) -> None:
    mirror = tmp_path / "hosts.toml"
    assert not Registry().ready(Here(mirror))
    mirror.write_text("[host]\n")
    assert not Registry().ready(Here(mirror))
    mirror.write_text(f'[host."http://{server}"]\n')
    assert Registry().ready(Here(mirror))


def test_not_ready_when_the_machine_does_not_answer() -> None:
    class Slow(DeadMachine):
        def run(self, command: Command) -> Result:
            raise TimedOut(f"{command}")

    assert not Registry().ready(Slow())


def test_only_our_images_are_wanted() -> None:
    listed = [
        "continuum.local/etcd:1",
        "continuum.local/a/b:2",
        "continuum.local/x@sha256:00",
        "sha256:0011",
        "docker.io/library/nginx:1",
    ]
    found = list(fill_registry.wanted(listed, "continuum.local"))
    assert found == [("etcd", "1"), ("a/b", "2")]


def test_what_is_there_is_not_sent_again(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Any] = []

    def run(arguments: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(arguments[3:])
        text = "continuum.local/there:1\ncontinuum.local/missing:2\n"
        return subprocess.CompletedProcess(arguments, 0, text, "")

    monkeypatch.setattr(subprocess, "run", run)
    fill_registry.main([server, "continuum.local"])
    assert ran == [
        ("list", "--quiet"),
        ("push", "--plain-http", f"{server}/missing:2", "continuum.local/missing:2"),
    ]
    assert capsys.readouterr().out == "missing:2\n"
