"""Which emulator is used."""

from __future__ import annotations

import pytest

from continuum.errors import NotPossibleHere, UsageError
from continuum.infrastructure.links.choose import choose
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue


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
