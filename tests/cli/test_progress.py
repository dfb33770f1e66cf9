from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from command_line import Cli, Write
from continuum.cli import output, progress
from continuum.events import Events, Note

ESCAPE = "\x1b"


def _plain(verbosity: int = output.NORMAL) -> tuple[io.StringIO, progress.PlainProgress, Events]:
    stream = io.StringIO()
    shown = progress.PlainProgress(stream, verbosity)
    return stream, shown, Events([shown])


def test_elsewhere_every_step_is_one_plain_line() -> None:
    stream, shown, events = _plain()
    with events.step("infrastructure", "machines", "SSH") as step:
        step.progress("edge-1", 0.5)
    with events.step("infrastructure", "network") as step:
        step.changed = False
    with pytest.raises(RuntimeError), events.step("infrastructure", "links"):
        raise RuntimeError
    shown.close()
    told = [re.sub(r"\d+\.\d s", "N s", line) for line in stream.getvalue().splitlines()]
    assert told == [
        "done    infrastructure: machines (N s)",
        "same    infrastructure: network (nothing to change)",
        "failed  infrastructure: links (N s)",
    ]


def test_verbose_tells_beginnings_and_details() -> None:
    stream, shown, events = _plain(output.VERBOSE)
    with events.step("infrastructure", "machines", "SSH") as step:
        step.progress("edge-1")
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "start   infrastructure: machines, waiting for SSH"
    assert lines[1].strip() == "infrastructure: machines: edge-1"


def test_quiet_tells_warnings_only() -> None:
    stream, shown, events = _plain(output.QUIET)
    with events.step("infrastructure", "machines"):
        events.note("by the way")
        events.emit(Note("take care", "warning"))
    shown.close()
    assert stream.getvalue() == "warning take care\n"


def test_a_step_that_lasts_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT", 0.0)
    stream, shown, events = _plain()
    with events.step("infrastructure", "machine image", "packages") as step:
        step.progress("unpacking libc6")
        end = time.monotonic() + 30
        while "…" not in stream.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    shown.close()
    assert "infrastructure: machine image: unpacking libc6 (" in stream.getvalue()


def test_no_more_than_five_seconds_pass_without_a_line() -> None:
    assert progress.HEARTBEAT + progress.LOOK_INTERVAL <= 5


def test_an_interruption_of_its_thread_is_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    _, shown, events = _plain()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), events.step("infrastructure", "network"):
            pass
    shown.close()


def test_a_stream_that_nobody_reads_does_not_stop_the_work() -> None:
    stream, shown, events = _plain()
    stream.close()
    with events.step("infrastructure", "machines"):
        pass
    shown.close()


def test_a_log_is_begun_when_the_deployment_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    log = progress.EventLog(folder, "up")
    log(Note("before"))
    assert not folder.exists()
    folder.mkdir()
    log(Note("after"))
    log.close()
    log(Note("too late"))
    (path,) = (folder / "logs").iterdir()
    text = path.read_text()
    assert "before" in text
    assert "after" in text
    assert "too late" not in text


def _on_a_terminal(arguments: list[str], **variables: str) -> tuple[int, str]:
    """Run the command line on a pseudo-terminal; returns exit code and all that was shown."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "continuum", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=secondary,
        stderr=secondary,
        env={**os.environ, "TERM": "xterm-256color", **variables},
    )
    os.close(secondary)
    shown = b""
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([primary], [], [], 0.1)[0]:
                try:
                    shown += os.read(primary, 65536)
                except OSError:
                    break
        return process.wait(timeout=60), shown.decode()
    finally:
        os.close(primary)
        if process.poll() is None:
            process.kill()
            process.wait()


def test_on_a_terminal_progress_is_drawn_and_leaves_plain_lines(write: Write) -> None:
    code, shown = _on_a_terminal(["up", str(write(fake='delay = "0.05 s"'))])
    assert code == 0
    assert "✓" in shown
    assert "infrastructure: machines" in shown
    # The cursor was hidden while it drew, and is shown again.
    assert shown.rindex(f"{ESCAPE}[?25h") > shown.rindex(f"{ESCAPE}[?25l")


def test_a_failure_on_a_terminal_leaves_it_usable(write: Write) -> None:
    code, shown = _on_a_terminal(["up", str(write(fake='delay = "0.05 s"\nfail_at = ["links"]'))])
    assert code == 1
    assert shown.rindex("error:") > shown.rindex(f"{ESCAPE}[?25h")
    assert "✗" in shown


def test_no_color_is_obeyed(write: Write) -> None:
    path = str(write())
    colours = (f"{ESCAPE}[3", f"{ESCAPE}[1;3", f"{ESCAPE}[2m")
    for arguments in (["up", path], ["validate", path], ["plan", path], ["up", "absent.toml"]):
        shown = _on_a_terminal(arguments, NO_COLOR="1")[1]
        assert not any(each in shown for each in colours), shown
    assert f"{ESCAPE}[3" in _on_a_terminal(["validate", path])[1]


def test_a_dumb_terminal_gets_no_escapes(write: Write) -> None:
    path = str(write())
    for arguments in (["up", path], ["status"], ["validate", path], ["down", "paper"]):
        assert ESCAPE not in _on_a_terminal(arguments, TERM="dumb")[1]


def test_data_and_talk_do_not_mix(cli: Cli, write: Write) -> None:
    path = write()
    for arguments in (["up", path, "--json"], ["plan", path, "--json"], ["status", "--json"]):
        assert cli(*arguments).json
