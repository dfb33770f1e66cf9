"""The benchmark of the control plane on the command line, before there is a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Cli

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "empty-pods"
EXAMPLE = EXAMPLES / "experiment.toml"


@pytest.fixture
def plan(cli: Cli) -> tuple[str | Path, ...]:
    del cli
    return ("plan", EXAMPLE, "--provider", "fake")


def test_the_plan_says_what_will_be_asked_for(cli: Cli, plan: tuple[str | Path, ...]) -> None:
    ending = cli(*plan)
    assert ending.code == 0
    assert "100 pods on 3 machines, by one Job" in ending.stdout
    assert "each may use what there is, and ends after 60 s" in ending.stdout
    assert "Hz" not in ending.stdout


def test_the_plan_as_json_holds_the_pods(cli: Cli, plan: tuple[str | Path, ...]) -> None:
    driver = cli(*plan, "--json").json["benchmark"]["driver"]
    assert driver["wish"]["pods"] == 100
    assert driver["machines"] == ["cloud-1", "cloud-2", "cloud-3", "cloud-4"]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("benchmark.empty.pods=331", "111 pods on each machine; a node carries at most 110"),
        ("benchmark.worker_memory=1GiB", "34 pods of 1 GiB on each machine"),
        ("benchmark.empty.runtime=kata-fc", "runtime kata-fc"),
    ],
)
def test_what_the_nodes_cannot_hold_is_not_runnable_here(
    cli: Cli, plan: tuple[str | Path, ...], setting: str, reason: str
) -> None:
    ending = cli(*plan, "--set", setting)
    assert ending.code == 3
    assert reason in ending.stderr


def test_pods_without_a_cluster_are_an_error_of_the_file(
    cli: Cli, plan: tuple[str | Path, ...]
) -> None:
    ending = cli(*plan, "--set", "software.manager=none")
    assert ending.code == 2
    assert "--set: software.manager" in ending.stderr
    assert "its pods need a cluster" in ending.stderr


def test_a_file_of_the_first_continuum_says_that_kubernetes_is_unmodified(cli: Cli) -> None:
    ending = cli("plan", EXAMPLES / "kubecontrol.cfg", "--provider", "fake")
    assert ending.code == 0
    assert "20 pods on 2 machines, by one Job" in ending.stdout
    assert "measured on an unmodified Kubernetes" in ending.stderr
