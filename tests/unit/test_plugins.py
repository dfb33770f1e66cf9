"""Plug-ins by kind and name."""

from __future__ import annotations

from importlib import metadata

import pytest

from continuum import plugins
from continuum.errors import NotPossibleHere, UsageError


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
