from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from command_line import Cli, Write
from continuum import errors, existing, workflow
from continuum.cli import created, main

EXPECTED = [
    (errors.ContinuumError, 1),
    (errors.UsageError, 2),
    (errors.NotPossibleHere, 3),
    (errors.MachineUnreachable, 4),
    (errors.NotFound, 5),
    (errors.StepFailed, 1),
    (errors.CommandFailed, 1),
    (errors.TimedOut, 1),
    (errors.LinksOutOfTolerance, 1),
    (errors.Interrupted, 130),
]


def _raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def status(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(existing, "status", status)


@pytest.mark.parametrize(("kind", "code"), EXPECTED)
def test_every_error_has_its_exit_code_and_is_told_whole(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: type[errors.ContinuumError], code: int
) -> None:
    output = "\n".join(f"line {number}" for number in range(30))
    _raises(
        monkeypatch, kind("it broke\nin two", where="edge-1: ls", output=output, hint="mend it")
    )
    ending = cli("status")
    assert ending.code == code
    assert not ending.stdout
    lines = ending.stderr.splitlines()
    assert lines[:4] == [
        "error: it broke",
        "       in two",
        "  where: edge-1: ls",
        "  last output:",
    ]
    assert lines[4] == "    line 10"
    assert "  what to do: mend it" in lines


def test_every_exit_code_of_the_errors_is_in_the_overview() -> None:
    told = {int(code) for code, _ in main.EXIT_CODES}
    assert {kind.exit_code for kind, _ in EXPECTED} <= told


def test_a_defect_is_exit_70_with_a_log(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _raises(monkeypatch, RuntimeError("surprise\nand more"))
    ending = cli("status")
    assert ending.code == 70
    assert "a defect of Continuum: RuntimeError: surprise" in ending.stderr
    (log,) = (tmp_path / ".state/continuum/logs").iterdir()
    assert str(log) in ending.stderr
    text = log.read_text()
    assert "Traceback" in text
    assert "arguments: status" in text
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError(), AssertionError(), KeyError("x")]
)
def test_whatever_is_raised_no_traceback_is_shown(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    _raises(monkeypatch, error)
    assert cli("status").code == 70


def test_a_defect_whose_log_cannot_be_written_is_told_all_the_same(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".state").write_text("in the way")
    _raises(monkeypatch, RuntimeError("surprise"))
    ending = cli("status")
    assert ending.code == 70
    assert "the log could not be written" in ending.stderr


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES),
        *(errno.EFBIG, errno.ENOMEM, errno.EAGAIN, errno.EIO),
    ],
)
def test_what_the_host_refuses_is_no_defect(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    _raises(monkeypatch, OSError(number, os.strerror(number), "/some/file"))
    ending = cli("status")
    assert ending.code == 1
    assert f"error: {os.strerror(number)}" in ending.stderr
    assert "where: /some/file" in ending.stderr
    assert "what to do:" in ending.stderr
    assert not (tmp_path / ".state/continuum/logs").exists()


def test_a_limit_on_threads_is_no_defect(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _raises(monkeypatch, RuntimeError("can't start new thread"))
    ending = cli("status")
    assert ending.code == 1
    assert "ulimit" in ending.stderr


@pytest.mark.parametrize("verb", ["up", "run", "plan", "status"])
def test_a_state_folder_that_cannot_be_one_is_no_defect(
    cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    ending = cli(verb, *([] if verb == "status" else [write()]))
    assert "defect" not in ending.stderr
    if verb == "status":
        assert ending.code == 0
        return
    assert ending.code == 1
    assert "XDG_STATE_HOME" in ending.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_that_changed_nothing_says_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    _raises(monkeypatch, error)
    ending = cli("status")
    assert ending.code == 130
    assert ending.stderr == "interrupted; nothing was changed\n"


def test_a_second_signal_ends_it_at_once(
    cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "up", interrupted)
    monkeypatch.setattr(created, "name_what_was_created", interrupted)
    assert cli("up", write()).code == 130


def test_a_defect_while_an_interruption_is_told_is_told_too(
    cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def broken(*_: object) -> None:
        raise RuntimeError("surprise")

    monkeypatch.setattr(workflow, "up", interrupted)
    monkeypatch.setattr(created, "name_what_was_created", broken)
    assert cli("up", write()).code == 70


def test_who_reads_only_the_beginning_gets_no_complaint(write: Write) -> None:
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "continuum", "plan", str(write()), "--json"]
    ending = subprocess.run(
        command, stdout=written, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(written)
    assert ending.stderr == b""
    assert ending.returncode == 0


@pytest.mark.parametrize("encoding", ["latin-1", "cp437"])
def test_an_output_that_is_not_utf_8_spells_out_what_it_lacks(
    encoding: str, write: Write, tmp_path: Path
) -> None:
    def output(*arguments: object) -> str:
        ending = subprocess.run(
            [sys.executable, "-m", "continuum", *map(str, arguments)],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=60,
            check=True,
        )
        return ending.stdout.decode(encoding)

    assert "MACHINE\\u2026" in output("exec", "--help")
    path = write().rename(tmp_path / "µ🙂.toml")
    (found,) = json.loads(output("validate", path, "--json"))
    assert found["file"] == str(path)


def test_a_file_name_of_any_bytes_is_no_defect(cli: Cli) -> None:
    for name in ("\udcff.toml", "a\nb.toml", "\x1b[31m.toml", "é" * 300 + ".toml"):
        assert cli("validate", name).code == 2


def test_a_folder_that_is_gone_is_told_before_anything_is_made(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        ending = cli("run", path)
    finally:
        os.chdir(tmp_path)
    assert ending.code == 2
    assert "the folder where you stand is gone" in ending.stderr
    assert "--results DIR" in ending.stderr
    assert cli("status").stdout.strip() in {"", "no deployments"}


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "1</dev/null"])
def test_with_closed_standard_streams_the_work_is_done(
    cli: Cli, write: Write, tmp_path: Path, closed: str
) -> None:
    path = write()
    line = f'exec "$0" -m continuum up {path} {closed}'
    ending = subprocess.run(
        ["sh", "-c", line, sys.executable],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert ending.returncode == 0
    assert "paper" in cli("status").stdout
    assert cli("down", "paper").code == 0
