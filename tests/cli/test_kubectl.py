"""`continuum kubectl` hands everything on to kubectl; who runs it is taken from here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from command_line import Cli, Write
from continuum.cli.commands import kubectl
from continuum.deployment import Deployment
from continuum.infrastructure.execute import stored_plan

PROGRAM = Path("/somewhere/kubectl")


REAL_PROGRAM_OF = kubectl.program_of


@dataclass
class Kubectl:
    """What this process would have become."""

    calls: list[tuple[object, list[str], Mapping[str, str]]] = field(default_factory=list)

    def __call__(self, program: object, words: list[str], environment: Mapping[str, str]) -> None:
        self.calls.append((program, words, environment))


@pytest.fixture(autouse=True)
def became(monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    found = Kubectl()
    monkeypatch.setattr(os, "execve", found)
    monkeypatch.setattr(kubectl, "program_of", lambda *_: PROGRAM)
    return found


@pytest.fixture
def cluster(cli: Cli, write: Write) -> Deployment:
    """A deployment `paper` that looks as one with a cluster."""
    assert cli("up", write()).code == 0
    deployment = Deployment.existing("paper")
    deployment.kubeconfig.write_text("{}")
    return deployment


@pytest.mark.parametrize(
    ("words", "handed_on"),
    [
        (["get", "pods", "-A", "--output=json"], ["get", "pods", "-A", "--output=json"]),
        (["paper", "get", "pods", "-o", "wide"], ["get", "pods", "-o", "wide"]),
        (["exec", "pod", "--", "ls", "-q", "--help"], ["exec", "pod", "--", "ls", "-q", "--help"]),
        (["logs", "--help"], ["logs", "--help"]),
        ([], []),
    ],
)
def test_all_words_but_the_name_are_kubectls(
    cluster: Deployment, cli: Cli, became: Kubectl, words: list[str], handed_on: list[str]
) -> None:
    cli("kubectl", *words)
    ((program, found, environment),) = became.calls
    assert program == PROGRAM
    assert found == ["kubectl", *handed_on]
    assert environment["KUBECONFIG"] == str(cluster.kubeconfig)
    assert environment["PATH"] == os.environ["PATH"]


def test_a_proxy_of_this_host_is_not_asked_for_the_cluster(
    cluster: Deployment, cli: Cli, became: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = stored_plan(cluster)
    assert plan is not None
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "intranet.example")
    cli("kubectl", "get", "nodes")
    ((_, _, environment),) = became.calls
    told = environment["NO_PROXY"].split(",")
    assert environment["no_proxy"] == environment["NO_PROXY"]
    assert {"intranet.example", plan.machines[0].address, str(plan.network.block)} <= set(told)


def test_the_one_with_a_cluster_is_meant_where_no_name_stands(
    cluster: Deployment, cli: Cli, write: Write, became: Kubectl
) -> None:
    assert cli("up", write("another")).code == 0
    cli("kubectl", "get", "nodes")
    ((_, _, environment),) = became.calls
    assert environment["KUBECONFIG"] == str(cluster.kubeconfig)


def test_a_deployment_without_a_cluster_is_said(cli: Cli, write: Write) -> None:
    assert cli("up", write()).code == 0
    ended = cli("kubectl", "paper", "get", "nodes")
    assert ended.code == 5
    assert 'deployment "paper" has no cluster' in ended.stderr
    assert "software.manager" in ended.stderr


def test_no_deployment_at_all_is_said(cli: Cli) -> None:
    ended = cli("kubectl", "get", "nodes")
    assert ended.code == 5
    assert not ended.stdout


@pytest.mark.parametrize("kept", [None, "{}", "[]", '{"software": {'])
def test_an_experiment_that_cannot_be_read_is_said(
    cluster: Deployment, cli: Cli, monkeypatch: pytest.MonkeyPatch, kept: str | None
) -> None:
    monkeypatch.setattr(kubectl, "program_of", REAL_PROGRAM_OF)
    path = cluster.folder / "experiment.json"
    if kept is None:
        path.unlink()
    else:
        path.write_text(kept)
    ended = cli("kubectl", "paper", "get", "nodes")
    assert ended.code == 5
    assert str(path) in ended.stderr
