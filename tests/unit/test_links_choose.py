"""Which emulator is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum import native
from continuum.errors import NotPossibleHere, UsageError
from continuum.infrastructure.links.choose import choose
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.infrastructure.plan import LinkSettings
from continuum.testing.link_lab import make_plan


def kernel(monkeypatch: pytest.MonkeyPatch, *, netem: str | None, nfqueue: str | None) -> None:
    monkeypatch.setattr(Netem, "probe", lambda *_: netem)
    monkeypatch.setattr(Nfqueue, "probe", lambda *_: nfqueue)


def test_the_kernels_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, netem=None, nfqueue=None)
    assert choose("auto").name == "netem"
    assert choose("nfqueue").name == "nfqueue"


def test_user_space_where_the_kernel_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, netem="no netem", nfqueue=None)
    assert choose("auto").name == "nfqueue"
    with pytest.raises(NotPossibleHere) as caught:
        choose("netem")
    assert caught.value.output == "netem: no netem"


def test_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel(monkeypatch, netem="no netem", nfqueue="no queues")
    with pytest.raises(NotPossibleHere) as caught:
        choose("auto")
    assert caught.value.output == "netem: no netem\nnfqueue: no queues"
    assert "modprobe" in caught.value.hint


def test_unknown() -> None:
    with pytest.raises(UsageError, match="netem"):
        choose("nettem")


@pytest.mark.parametrize(
    ("settings", "compiled", "netem", "chosen"),
    [
        (LinkSettings(10, 2), True, None, "nfqueue"),
        (LinkSettings(10, 2), False, None, "netem"),
        (LinkSettings(10, 2), False, "no netem", "nfqueue"),
        (LinkSettings(10, 0, 1), True, None, "netem"),
        (LinkSettings(10, 2, 0, 10_000), True, None, "netem"),
    ],
    ids=["jitter", "no compiler", "no netem", "no jitter", "beyond a core"],
)
def test_jitter_is_for_the_compiled_program(
    monkeypatch: pytest.MonkeyPatch,
    settings: LinkSettings,
    compiled: bool,
    netem: str | None,
    chosen: str,
) -> None:
    kernel(monkeypatch, netem=netem, nfqueue=None)
    program = Path("/program") if compiled else None
    monkeypatch.setattr(native, "program", lambda _: program)
    plan = make_plan({"edge": 1, "endpoint": 1}, {("edge", "endpoint"): settings})
    assert choose("auto", links=plan.network.links).name == chosen
