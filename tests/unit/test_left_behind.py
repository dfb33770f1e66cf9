"""Which deployments a killed test run has left."""

from __future__ import annotations

import os
from pathlib import Path

import left_behind


def test_only_what_a_killed_run_left_is_found(tmp_path: Path) -> None:
    dead, alive = (tmp_path / "pytest-of-root" / name for name in ("pytest-1", "pytest-2"))
    labels = {
        "ctm00000001": f"continuum a {dead}/popen-gw0/t0/state/continuum/deployments",
        "ctm00000002": f"continuum b {alive}/popen-gw0/t0/state/continuum/deployments",
        "ctm00000003": "continuum c /var/lib/somebody/continuum/deployments",
    }
    for folder, process in ((dead, 99999999), (alive, os.getpid())):
        folder.mkdir(parents=True)
        (folder / ".lock").write_text(str(process))
    for name, label in labels.items():
        (tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "ifalias").write_text(label + "\n")
    assert left_behind.states(tmp_path / "net") == {dead / "popen-gw0/t0/state"}
