"""OpenFaaS in a cluster: what is installed, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import go_programs
from continuum.artifacts import catalogue, toolchain
from continuum.artifacts.attempt import Unavailable
from continuum.errors import NotPossibleHere
from continuum.experiment.load import load_text
from continuum.experiment.model import Experiment
from continuum.images.recipe import ContainerImages, fingerprint
from continuum.machine import run_on_host
from continuum.software.serverless import builtin, community, distribution, names

TESTS = Path(__file__).parents[1] / "go" / builtin.PROGRAM
# The caches of Go that builds use, although tests have folders of their own.
HOME = Path("~").expanduser()
EXPERIMENT = """
name = "functions"
[tiers.cloud]
machines = 2
[software]
manager = "kubernetes"
execution_model = "{model}"
[software.serverless]
{serverless}
"""


def experiment(serverless: str = "", model: str = "function") -> Experiment:
    return load_text(
        EXPERIMENT.format(model=model, serverless=serverless), Path("functions.toml")
    ).experiment


def by_kind(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in objects}


def test_the_default_is_refused_until_its_licence_is_accepted_and_the_terms_are_told() -> None:
    for call in (distribution.install, distribution.plays, distribution.notes):
        with pytest.raises(NotPossibleHere) as refused:
            call(experiment())
        assert "60 days" in refused.value.message
        assert 'distribution = "builtin"' in refused.value.hint


def test_the_official_images_are_pinned_and_the_terms_are_told_again() -> None:
    accepted = experiment("accept_licence = true")
    (step,) = distribution.install(accepted)
    assert isinstance(step, ContainerImages)
    assert [each.title for each in step.images] == [
        "ghcr.io/openfaas/gateway:0.27.13",
        "ghcr.io/openfaas/faas-netes:0.18.17",
    ]
    assert community.TERMS in distribution.notes(accepted)[0]
    assert distribution.versions(accepted) == {"openfaas": "0.27.13"}
    pod = by_kind(community.manifests())["Deployment"]["spec"]["template"]["spec"]
    mounted = {
        each["name"] for container in pod["containers"] for each in container["volumeMounts"]
    }
    assert mounted == {each["name"] for each in pod["volumes"]}


def test_nothing_is_installed_where_nothing_runs_as_a_function() -> None:
    other = experiment('distribution = "builtin"', model="container")
    assert distribution.install(other) == ()
    assert distribution.plays(other) == ()
    assert distribution.versions(other) == {}
    assert distribution.missing(other, {}) == []


def test_ours_is_said_not_to_be_openfaas_and_has_its_names() -> None:
    chosen = experiment('distribution = "builtin"')
    assert "not OpenFaaS" in distribution.notes(chosen)[0]
    (play,) = distribution.plays(chosen)
    assert play.machines == ("cloud-1",)
    found = by_kind(play.variables["serverless_manifests"]["items"])
    gateway = found["Deployment"]
    assert gateway["metadata"]["name"] == "gateway"
    assert gateway["metadata"]["namespace"] == "openfaas"
    (step,) = distribution.install(chosen)
    assert isinstance(step, ContainerImages)
    container = gateway["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == step.images[0].reference
    (port,) = found["Service"]["spec"]["ports"]
    assert (port["port"], port["nodePort"]) == (8080, 31112)
    assert found["Role"]["metadata"]["namespace"] == "openfaas-fn"
    assert (
        found["RoleBinding"]["subjects"][0]["name"] == found["ServiceAccount"]["metadata"]["name"]
    )


def test_no_password_is_in_what_configure_writes() -> None:
    (play,) = distribution.plays(experiment('distribution = "builtin"'))
    assert "Secret" not in by_kind(play.variables["serverless_manifests"]["items"])
    assert play.variables["serverless_user"] == names.USER


def test_a_change_of_the_program_comes_with_a_version() -> None:
    # Caches know it by its version: raise that in the catalogue, and write both here.
    project = catalogue.project_of(builtin.PROGRAM)
    pins = fingerprint(sorted(catalogue.pinned_files(builtin.PROGRAM).items()))
    assert (project.version, pins) == ("v0.1.3", "1aedc53acc8f396d")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # With empty caches it compiles all of Kubernetes' client, on one core.
def test_the_program_passes_its_own_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HOME))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    try:
        go = toolchain.find("1.24.0", go_programs.quiet)
    except Unavailable as error:
        pytest.skip(f"no Go here: {error}")
    for name, text in catalogue.pinned_files(builtin.PROGRAM).items():
        (tmp_path / name).write_text(text)
    for path in TESTS.glob("*_test.go"):
        shutil.copy(path, tmp_path)
    environment = {"CGO_ENABLED": "0", "GOMAXPROCS": os.environ.get("GOMAXPROCS", "1")}
    command = go.command(("test", "-vet=all", "./..."), environment, 1100, tmp_path)
    run_on_host(command).check("Go is not content")
