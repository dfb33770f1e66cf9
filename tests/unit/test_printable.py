"""Text from outside on its way to a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from continuum.cli import output, printable
from continuum.cli.progress import LiveProgress, PlainProgress
from continuum.events import Note, StepFinished, StepProgress, StepStarted

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "colour": "\x1b[31mred",
    "C1": "\x9b2J\x90q\x9c",
    "carriage return": "fine\rerror: none",
    "backspace": "\x08\x08ok",
    "bidi": "\u202eevil\u2066x\u2069",
    "zero width": "a\u200bb\ufeff",
    "half a pair": "\ud800",
    "separators": "a\u2028b\u2029c\x85d",
    "null": "\x00",
}


def is_clean(text: str, *, styles: bool = False) -> bool:
    """Nothing in it that a terminal obeys; but our own styles, where there may be some."""
    if styles:
        text = text.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "")
        text = text.replace("\x1b[?25l", "").replace("\x1b[?25h", "")
    return all(each.isprintable() or each in "\n\t\xa0" for each in text)


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def noted(stream: io.StringIO, text: str) -> None:
    shown = PlainProgress(stream, output.VERBOSE)
    for event in (
        Note(text),
        Note(text, "warning"),
        StepStarted("software", text, text),
        StepProgress("software", text, text, None),
        StepFinished("software", text, 1.0, changed=True),
    ):
        shown(event)
    shown.close()


def drawn_live(stream: io.StringIO, text: str) -> None:
    shown = LiveProgress(stream)
    shown(StepStarted("software", text, text))
    shown(StepProgress("software", text, text, 0.5))
    stream.write("".join(each.text for each in Console(file=stream).render(shown._render())))
    shown(Note(text))
    shown(StepFinished("software", text, 1.0, changed=True))
    shown.close()


def result_of_others(stream: io.StringIO, text: str) -> None:
    table = Table(text)
    table.add_row(Text(text), text.replace("[", r"\["))
    console = Console(file=stream, color_system=None, force_terminal=False)
    console.print(output.Clean(table), crop=False)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("writer", [noted, result_of_others])
def test_nothing_from_outside_reaches_a_terminal_raw(
    writer: Callable[[io.StringIO, str], None], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    writer(stream, text)
    assert is_clean(stream.getvalue())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nor_where_it_is_drawn_again_and_again(text: str) -> None:
    stream = io.StringIO()
    drawn_live(stream, text)
    assert is_clean(stream.getvalue())


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_commands_write_and_say_is_clean(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.write(f"name: {text}")
    output.say(f"note: {text}")
    output.draw(Text(text))
    said = capsys.readouterr()
    assert is_clean(said.out)
    assert is_clean(said.err)


def test_styles_of_ours_work_and_those_of_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    title = output.styled("\x1b[31mred", "strong", Terminal())
    shown = output.shown(f"{title}: \x1b[1mbold")
    assert shown == "\x1b[1m\\x1b[31mred\x1b[0m: \\x1b[1mbold"
    assert is_clean(shown, styles=True)


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_json_means_the_same_and_is_clean(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.write_json({"text": value})
    said = capsys.readouterr().out
    assert is_clean(said)
    assert json.loads(said) == {"text": value}


def test_no_line_of_a_note_looks_like_one_of_ours() -> None:
    stream = io.StringIO()
    noted(stream, "fine\ndone    infrastructure: machines (1.0 s)")
    lines = stream.getvalue().splitlines()
    assert not any(line.startswith("done    infrastructure: machines") for line in lines)


def test_plain_text_stays_as_it_is() -> None:
    for text in ("Grüße, 日本語 ✓ → …", "5\xa0ms\u2009kB", "a\tb\nc"):
        assert printable.clean(text) == text


def through_a_terminal(write: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> bytes:
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        write()
        stream.flush()
        monkeypatch.undo()
        said = os.read(master, 65536)
    os.close(master)
    return said


def test_a_log_is_clean_on_a_terminal_and_as_it_is_in_a_pipe(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"\x1b[31mred\xff\x00\n"
    output.write_log(content)
    assert capfdbinary.readouterr().out == content
    said = through_a_terminal(lambda: output.write_log(content), monkeypatch)
    assert said.replace(b"\r\n", b"\n") == "\\x1b[31mred\ufffd\\x00\n".encode()
