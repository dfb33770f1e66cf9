"""The command line, run in this process."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from command_line import Cli, Ending, Write, write_paper
from continuum.cli import main


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command line in this process. No call may ever show a traceback."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ending:
        capsys.readouterr()
        code = main.run([str(argument) for argument in arguments])
        stdout, stderr = capsys.readouterr()
        assert "Traceback" not in stdout + stderr
        return Ending(code, stdout, stderr)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an experiment on paper into the test's folder."""
    return functools.partial(write_paper, tmp_path)
