"""What of frames one by one is beyond the user-space emulator, and what is told of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from continuum import native
from continuum.errors import NotPossibleHere
from continuum.infrastructure.links import capacity
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.plan import InfrastructurePlan, LinkSettings
from continuum.testing.link_lab import make_plan


def plan(settings: LinkSettings, emulator: str = "auto") -> InfrastructurePlan:
    return make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): settings}, emulator)


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(native, "program", lambda _: Path("/program"))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(native, "program", lambda _: None)


@pytest.mark.parametrize(
    "settings", [LinkSettings(5, 1, 0, 10_000), LinkSettings(5, 0, 0.1, 2500)], ids=str
)
def test_a_rate_beyond_a_core_is_refused_by_name(settings: LinkSettings) -> None:
    with pytest.raises(NotPossibleHere, match=r"link edge to endpoint: .* full frames") as caught:
        Nfqueue().refuse(plan(settings))
    assert "Mbit/s" in caught.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        LinkSettings(5, 0, 0, 10_000),
        LinkSettings(5, 1, 1, None),
        LinkSettings(5, 1, 1, 1000),
        LinkSettings(),
    ],
    ids=str,
)
def test_what_stays_whole_or_within_is_carried(settings: LinkSettings) -> None:
    Nfqueue().refuse(plan(settings))


@pytest.mark.usefixtures("compiler")
def test_remarks_name_the_links_and_the_reason() -> None:
    def said(settings: LinkSettings, emulator: str = "auto", *, own_kernels: bool = False) -> str:
        return "\n".join(capacity.remarks(plan(settings, emulator), own_kernels=own_kernels))

    assert said(LinkSettings(20, 0, 1, 100)) == ""
    assert "edge to endpoint: with jitter the emulator is nfqueue" in said(LinkSettings(20, 2))
    assert "netem draws" in said(LinkSettings(20, 2), "netem")
    assert "netem draws" in said(LinkSettings(20, 2), own_kernels=True)
    assert said(LinkSettings(20, 2), "nfqueue") == ""
    assert "a third of the delay" in said(LinkSettings(5, 3), "nfqueue")
    assert said(LinkSettings(5, 3), "one of a plug-in") == ""


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_cost_is_told() -> None:
    def said(settings: LinkSettings, emulator: str) -> str:
        return "\n".join(capacity.remarks(plan(settings, emulator), own_kernels=False))

    assert "apt-get install gcc" in said(LinkSettings(20, 0, 1), "nfqueue")
    assert "10,000 frames a second instead of 200,000" in said(LinkSettings(20, 2), "auto")
    assert said(LinkSettings(20), "nfqueue") == ""
    assert "apt-get" not in said(LinkSettings(20, 0, 1), "netem")
