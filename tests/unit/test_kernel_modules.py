"""Parts of the kernel that containers in machines need."""

from __future__ import annotations

from pathlib import Path

import pytest

from continuum.errors import NotPossibleHere
from continuum.infrastructure.host import kernel_modules, limits
from continuum.machine import Command, Result


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []

    def run(command: Command) -> Result:
        calls.append(command.arguments)
        for name in command.arguments[2:]:
            if name != "never":
                (tmp_path / name).mkdir()
        return Result(command, 0, b"", b"FATAL: Module never not found", 0.0)

    monkeypatch.setattr(kernel_modules, "run_on_host", run)
    monkeypatch.setattr(kernel_modules.shutil, "which", lambda name: f"/sbin/{name}")  # type: ignore[attr-defined]
    return calls


def test_only_what_is_missing_is_loaded(asked: list[tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    modules = {name: tmp_path / name for name in ("there", "bridge", "overlay")}
    assert kernel_modules.missing(modules) == ["bridge", "overlay"]
    assert kernel_modules.ensure(modules) == ["bridge", "overlay"]
    assert asked == [("modprobe", "--all", "bridge", "overlay")]
    assert kernel_modules.ensure(modules) == []
    assert len(asked) == 1


def test_what_the_kernel_does_not_have_is_said(
    asked: list[tuple[str, ...]], tmp_path: Path
) -> None:
    modules = {name: tmp_path / name for name in ("bridge", "never")}
    with pytest.raises(NotPossibleHere, match="has no never, which") as caught:
        kernel_modules.ensure(modules)
    assert caught.value.hint == "as root: modprobe --all never"
    assert "Module never not found" in caught.value.output
    assert len(asked) == 1


def test_nodes_take_more_of_the_kernel_than_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limits, "_path", lambda name: tmp_path / name)
    file = tmp_path / limits.INOTIFY_INSTANCES
    file.write_text("128")
    limits.raise_for(10)
    plain = int(file.read_text())
    limits.raise_for(10, nodes=10)
    assert int(file.read_text()) > plain
