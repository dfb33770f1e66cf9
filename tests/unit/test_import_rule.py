"""The direction of imports, and that the rule which pins it finds what it is there to find."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FORBIDDEN = {
    "from an earlier phase to a later one": (
        "continuum/infrastructure/plan.py",
        "from continuum.software import contract as later",
    ),
    "from a phase to the command line": (
        "continuum/report/table.py",
        "from continuum.cli import output as commands",
    ),
    "from what is shared to a phase": (
        "continuum/machine.py",
        "import continuum.experiment.model",
    ),
    "hidden in a function": (
        "continuum/experiment/units.py",
        "def late() -> None:\n    import continuum.workflow",
    ),
    "from what runs inside machines": (
        "continuum_runtime/message.py",
        "from continuum import errors",
    ),
    "from a configure step to machines": (
        "continuum/software/configure.py",
        "from continuum.machine import Command as Touched",
    ),
    "of arguments outside the command line": (
        "continuum/workflow.py",
        "import click",
    ),
}


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "roles", "*.json")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_go_one_way(copy: Path) -> None:
    ending = _lint(copy)
    assert ending.returncode == 0, ending.stdout


@pytest.mark.parametrize("what", FORBIDDEN)
def test_an_import_the_wrong_way_is_found(copy: Path, what: str) -> None:
    module, line = FORBIDDEN[what]
    with (copy / "src" / module).open("a") as file:
        file.write(f"\n\n{line}\n")
    ending = _lint(copy)
    assert ending.returncode == 1, ending.stdout
    assert "BROKEN" in ending.stdout


def test_a_module_that_has_no_place_is_found(copy: Path) -> None:
    (copy / "src/continuum/stray.py").write_text('"""Nobody said where this belongs."""\n')
    assert _lint(copy).returncode == 1
