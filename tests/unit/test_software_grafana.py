"""Grafana: whether a deployment has it, what comes out of its release, and what it is told.

Grafana itself is not on the test machines: what it makes of this is not shown here.
"""

from __future__ import annotations

import configparser
import io
import json
import re
import subprocess
import sys
import tarfile
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from continuum.deployment import Deployment
from continuum.errors import ContinuumError
from continuum.events import Event, Events, Note, StepFinished, StepProgress, StepStarted
from continuum.experiment.model import Experiment, Software, Tier
from continuum.experiment.model import Grafana as Settings
from continuum.images.recipe import Recipe
from continuum.secret import Secret
from continuum.software.configure import SoftwarePlan, configure
from continuum.software.contract import Service
from continuum.software.services import grafana
from continuum.testing.software import ServiceContract, small_plan
from releases import Server, serving, use_catalogue

CATALOGUE = """
[grafana]
about = "dashboards"
version = "v1.2.3"
programs = ["grafana"]
sources = ["release"]

[grafana.release]
file = "{server}/grafana-{{number}}.tar.gz"
checksum = "{server}/grafana-{{number}}.tar.gz.sum"
whole = true
"""
INSIDE = {
    "grafana-1.2.3/bin/grafana": b"program",
    "grafana-1.2.3/conf/defaults.ini": b"[paths]",
    "grafana-1.2.3/public/app.js": b"code",
    "grafana-1.2.3/public/app.js.map": b"what made the code",
}


def archive(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if "/bin/" in name else 0o640
            tar.addfile(member, io.BytesIO(content))
    return written.getvalue()


def experiment(*, observability: bool = True, password: str = "admin") -> Experiment:  # noqa: S107
    return Experiment(
        name="paper",
        tiers={"cloud": Tier(machines=1), "endpoint": Tier(machines=1)},
        software=Software(observability=observability, grafana=Settings(password=Secret(password))),
    )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Where Grafana's release could be: there is nothing yet."""
    with serving() as found:
        use_catalogue(monkeypatch, CATALOGUE.format(server=found.address))
        yield found


@pytest.fixture
def published(server: Server) -> Server:
    server.publish("/grafana-1.2.3.tar.gz", archive(INSIDE))
    return server


@pytest.fixture
def in_store(
    published: Server, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release is in a store that lies apart from where the test looks."""
    assert published.files
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    assert looked_for()[0]


@pytest.mark.usefixtures("in_store")
class TestGrafana(ServiceContract):
    def subject(self) -> Service:
        return grafana.Grafana()


def deployment(*roles: str) -> Deployment:
    found = Deployment.named("paper")
    for role in roles:
        (found.folder / "plan" / "software" / "roles" / role).mkdir(parents=True)
    return found


def looked_for() -> tuple[bool, list[Event]]:
    told: list[Event] = []
    return grafana.look_for(Events([told.append])), told


def test_what_cannot_be_had_is_told_in_one_line(server: Server) -> None:
    assert looked_for() == (False, [])
    assert server.asked
    (line,) = grafana.left_out(experiment(), deployment())
    assert "Grafana is left out" in line
    assert "continuum artifacts fetch grafana" in line


def test_a_download_shows(published: Server) -> None:
    there, told = looked_for()
    assert there
    assert published.asked
    assert isinstance(told[0], StepStarted)
    assert isinstance(told[-1], StepFinished)
    assert any(isinstance(each, StepProgress) for each in told)
    assert grafana.left_out(experiment(), deployment()) == ()
    assert looked_for() == (True, [])


def test_a_release_that_is_not_what_its_project_says_is_refused(server: Server) -> None:
    server.publish("/grafana-1.2.3.tar.gz", archive(INSIDE), digest="0" * 64)
    there, told = looked_for()
    assert not there
    assert not any(isinstance(each, Note) for each in told)
    assert grafana.left_out(experiment(), deployment())


@pytest.mark.parametrize(
    ("roles", "in_store", "belongs"),
    [
        ((), False, False),
        ((), True, True),
        # What is up stays as it is: another machine image would mean other machines.
        (("observability",), True, False),
        (("observability", "grafana"), False, True),
        (("mqtt",), True, True),
    ],
)
@pytest.mark.usefixtures("published")
def test_a_deployment_keeps_what_it_began_with(
    roles: tuple[str, ...], in_store: bool, belongs: bool
) -> None:
    if in_store:
        looked_for()
    here = deployment(*roles)
    assert grafana.belongs_to(experiment(), here) == belongs
    assert bool(grafana.left_out(experiment(), here)) != belongs
    assert not grafana.belongs_to(experiment(observability=False), here)
    assert not grafana.left_out(experiment(observability=False), here)


@pytest.mark.usefixtures("published")
def test_the_image_holds_the_release_without_what_nothing_runs(tmp_path: Path) -> None:
    looked_for()
    recipe = Recipe.collect(grafana.Grafana().install())
    (tree,) = (tree for tree in recipe.trees if tree.name == "grafana")
    tree.write(tmp_path, lambda _: None)
    there = {
        path.relative_to(tmp_path / "opt/grafana").as_posix()
        for path in (tmp_path / "opt/grafana").rglob("*")
        if path.is_file()
    }
    assert there == {"bin/grafana", "conf/defaults.ini", "public/app.js"}
    assert (tmp_path / "opt/grafana/bin/grafana").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "opt/grafana/public/app.js").stat().st_mode & 0o777 == 0o644
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants/grafana.service"
    assert wants.is_symlink()
    unit = (tmp_path / "etc/systemd/system/grafana.service").read_text()
    assert f"ConditionPathExists={grafana.CONFIGURATION}\n" in unit


@pytest.mark.parametrize(
    "content",
    [
        archive({"grafana-1.2.3/README": b""}),
        archive({"grafana-1.2.3/../../etc/passwd": b"", "grafana-1.2.3/bin/grafana": b""}),
        archive({"/etc/passwd": b"", "grafana-1.2.3/bin/grafana": b""}),
        archive(INSIDE)[:-40],
        b"<html>not here</html>",
    ],
)
def test_what_is_no_release_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(ContinuumError, match="cannot be unpacked"):
        grafana.unpack(path, tmp_path / "target")
    assert not (tmp_path / "etc").exists()


def units(wanted: Experiment) -> list[dict[str, Any]]:
    plan = small_plan(wanted)
    machines = grafana.Grafana().machines(wanted, ())
    (play,) = grafana.Grafana().configure(wanted, plan, machines)
    assert play.machines == ("cloud-1",)
    found: list[dict[str, Any]] = json.loads(b64decode(play.variables["grafana_units"]))
    return found


def test_it_listens_on_the_emulated_network_and_tells_nobody_outside() -> None:
    wanted = experiment()
    (unit,) = units(wanted)
    (spec,) = (spec for spec in small_plan(wanted).machines if spec.name == "cloud-1")
    told = configparser.RawConfigParser()
    told.read_string(unit["files"][grafana.CONFIGURATION])
    assert dict(told["server"]) == {"http_addr": spec.address, "http_port": "3000"}
    for key in ("reporting_enabled", "check_for_updates", "check_for_plugin_updates"):
        assert told["analytics"][key] == "false"
    assert told["dashboards"]["default_home_dashboard_path"] in unit["files"]


@pytest.mark.usefixtures("published")
def test_what_is_written_goes_from_machines_that_stay() -> None:
    looked_for()
    trees = Recipe.collect(grafana.Grafana().install()).trees
    traces = [Path(trace) for tree in trees for trace in tree.traces]
    (unit,) = units(experiment())
    told = configparser.RawConfigParser()
    told.read_string(unit["files"][grafana.CONFIGURATION])
    for path in (*unit["files"], *dict(told["paths"]).values()):
        assert set(traces) & set(Path(path).parents), path


def test_data_source_and_dashboards_are_there_from_the_start() -> None:
    (unit,) = units(experiment())
    files: dict[str, str] = unit["files"]
    provisioning = "/etc/continuum/grafana/provisioning"
    (source,) = yaml.safe_load(files[f"{provisioning}/datasources/continuum.yaml"])["datasources"]
    (provider,) = yaml.safe_load(files[f"{provisioning}/dashboards/continuum.yaml"])["providers"]
    dashboards = [path for path in files if path.startswith(f"{provider['options']['path']}/")]
    assert len(dashboards) == 3
    for path in dashboards:
        for panel in json.loads(files[path])["panels"]:
            if panel["type"] != "row":
                assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert source["url"].endswith(":9090")


def test_another_password_begins_anew_with_what_is_kept() -> None:
    wanted = experiment()
    plan = configure(wanted, small_plan(wanted), {"grafana": ()})
    (play,) = (play for play in plan.plays if play.role == "grafana")
    (unit,) = units(wanted)
    told = configparser.RawConfigParser()
    told.read_string(unit["files"][grafana.CONFIGURATION])
    # What is removed with another password is what Grafana keeps.
    assert play.variables["grafana_data"] == told["paths"]["data"]
    assert f"EnvironmentFile={play.variables['grafana_password_file']}" in grafana._UNIT_FILE


def test_a_password_is_in_no_file_of_the_plan_and_changes_only_its_mark() -> None:
    def planned(password: str) -> SoftwarePlan:
        wanted = experiment(password=password)
        return configure(wanted, small_plan(wanted), {"grafana": ()})

    first, second = planned("CANARY-17"), planned("CANARY-18")
    assert first.files == second.files
    assert first.secrets == {"CANARY-17"}
    assert "CANARY" not in repr(first) + str(first.plays)
    for text in first.files.values():
        assert "CANARY" not in text
        for word in re.findall(r"(?:[A-Za-z0-9+/]{4}){10,}=*", text):
            assert b"CANARY" not in b64decode(word)
    assert first.fingerprint == second.fingerprint
    key, other = b"k" * 32, b"o" * 32
    assert first.mark(lambda: key) == planned("CANARY-17").mark(lambda: key)
    assert first.mark(lambda: key) != second.mark(lambda: key)
    assert first.mark(lambda: key) != first.mark(lambda: other)


def test_the_role_hands_on_braces_as_they_are(tmp_path: Path) -> None:
    """Legends are full of them, and Ansible would take them for its own."""
    wanted = experiment()
    plan = configure(wanted, small_plan(wanted), {"grafana": ()})
    assert "grafana_units | b64decode" in plan.files["roles/grafana/tasks/main.yml"]
    (play,) = (play for play in plan.plays if play.role == "grafana")
    variables = json.dumps({"units": play.variables["grafana_units"]})
    home = tmp_path / "home"
    home.mkdir()
    ended = subprocess.run(
        (
            *(Path(sys.executable).with_name("ansible"), "localhost", "-c", "local", "-m", "copy"),
            *("-a", f"dest={tmp_path}/got content={{{{ units | b64decode }}}}", "-e", variables),
        ),
        env={"PATH": "/usr/bin:/bin", "ANSIBLE_HOME": str(home), "LANG": "C.UTF-8"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads((tmp_path / "got").read_text()) == units(wanted)


def test_the_password_is_for_root_alone_and_another_one_forgets_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, kept, file = tmp_path / "programs", tmp_path / "data", tmp_path / "etc/environment"
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def give(password: str) -> str:
        kept.mkdir(exist_ok=True)
        words = (str(file), "PASSWORD", "grafana.service", str(kept))
        return subprocess.run(
            (sys.executable, "-m", "continuum_runtime.secret_variable", *words),
            input=password,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert give('a"b\\c$d`e') == "changed\n"
    assert file.read_text() == 'PASSWORD="a\\"b\\\\c\\$d\\`e"\n'
    assert file.stat().st_mode & 0o777 == 0o600
    assert not kept.exists()
    file.chmod(0o644)
    assert give('a"b\\c$d`e') == ""
    assert file.stat().st_mode & 0o777 == 0o600
    assert kept.exists()
    assert give("other") == "changed\n"
    assert (tmp_path / "asked").read_text() == "stop grafana.service\n" * 2
