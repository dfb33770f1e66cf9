"""Plug-ins by kind and name."""

from __future__ import annotations

from importlib import metadata

import pytest

from continuum import plugins
from continuum.errors import NotPossibleHere, UsageError
from continuum.experiment.model import CLUSTER_MANAGERS, Experiment, problems_over_fields
from continuum.software.configure import configure, manager_of
from continuum.software.managers.kubernetes import Kubernetes
from continuum.testing.software import small_plan


@pytest.mark.parametrize("target", ["no_such_module:Thing", "json:NoSuchThing"])
def test_a_plugin_whose_package_is_broken_is_no_defect_of_ours(
    monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    point = metadata.EntryPoint("mine", target, "continuum.services")
    monkeypatch.setattr(plugins, "_external", lambda _: {"mine": point})
    with pytest.raises(NotPossibleHere, match='plug-in "mine" cannot be loaded') as caught:
        plugins.load("services", "mine")
    assert target in caught.value.where


def test_a_name_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "mqtt"'):
        plugins.load("services", "mqqt")


@pytest.mark.parametrize("kind", ["providers", "emulators", "services", "managers"])
def test_what_ships_can_be_loaded(kind: str) -> None:
    for name in plugins.built_in(kind):
        assert plugins.load(kind, name).name == name


class Mine(Kubernetes):
    """A manager of another package."""

    name = "mine"


def experiment_of(manager: str, model: str = "container") -> Experiment:
    return Experiment.model_validate(
        {
            "name": "sample",
            "tiers": {
                "cloud": {"cores": 2, "memory": "2 GiB"},
                "edge": {"cores": 2, "memory": "2 GiB"},
            },
            "software": {"manager": manager, "execution_model": model},
        }
    )


def test_a_manager_of_another_package_may_have_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("mine", f"{__name__}:Mine", "continuum.managers")
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: Mine)
    monkeypatch.setattr(plugins, "_external", lambda _: {"mine": point})
    experiment = experiment_of("mine")
    assert experiment.control_machine == "cloud-1"
    assert isinstance(manager_of(experiment), Mine)
    plays = configure(experiment, small_plan(experiment)).plays
    assert [play.role for play in plays] == [
        play.role for play in configure(experiment_of("kubernetes"), small_plan(experiment)).plays
    ]
    assert problems_over_fields(experiment_of("mine", "function")) == []


def test_what_ships_says_itself_whether_it_has_a_cluster() -> None:
    said = {name for name in plugins.built_in("managers") if plugins.load("managers", name).cluster}
    assert said == CLUSTER_MANAGERS


@pytest.mark.parametrize("manager", ["nonsense", "kube_kata"])
def test_a_manager_that_cannot_be_had_has_no_cluster(manager: str) -> None:
    assert experiment_of(manager).control_machine is None
