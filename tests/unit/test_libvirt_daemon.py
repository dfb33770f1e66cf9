"""The daemons of libvirt that we start, where one of them was killed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from continuum.infrastructure.providers.libvirt import daemon


@pytest.mark.parametrize(
    ("started", "alive", "again"),
    [
        ((), (), False),
        (("virtlogd", "libvirtd"), ("virtlogd", "libvirtd"), False),
        (("virtlogd", "libvirtd"), ("libvirtd",), True),
        (("virtlogd", "libvirtd"), ("virtlogd",), True),
    ],
)
def test_a_daemon_of_ours_that_was_killed_is_started_again(
    started: tuple[str, ...],
    alive: tuple[str, ...],
    again: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in started:
        (tmp_path / name).touch()
    begun: list[bool] = []
    opened = object()
    library: Any = SimpleNamespace(open=lambda _: opened, libvirtError=OSError)
    monkeypatch.setattr(daemon, "library", lambda: library)
    monkeypatch.setattr(daemon, "_number_file", lambda name: tmp_path / name)
    monkeypatch.setattr(daemon, "_alive", lambda name: name in alive)
    monkeypatch.setattr(daemon, "_start", lambda: begun.append(True))
    assert daemon._opened() is opened
    assert bool(begun) is again
