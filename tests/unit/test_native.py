"""Programs in C: compiled once, by what they are made of."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from continuum import native

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    monkeypatch.setattr(native, "_folder", lambda: folder)
    native._known.clear()
    return folder


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this host")
def test_a_program_is_compiled_once_and_anew_when_its_source_changes(sources: Path) -> None:
    (sources / "hello.c").write_text(HELLO)
    first = native.program("hello")
    assert first is not None
    said = subprocess.run([first], capture_output=True, check=True).stdout
    assert said == b"hello\n"
    native._known.clear()
    assert native.program("hello") == first
    (sources / "hello.c").write_text(HELLO.replace("hello", "hallo"))
    native._known.clear()
    assert native.program("hello") not in {first, None}


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this host")
def test_what_does_not_compile_is_none(sources: Path) -> None:
    (sources / "hello.c").write_text("int main(void) { return")
    assert native.program("hello") is None


def test_without_a_compiler_there_is_none(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / "hello.c").write_text(HELLO)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert native.program("hello") is None


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler on this host")
def test_a_compiler_that_came_meanwhile_is_used(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sources / "hello.c").write_text(HELLO)
    with monkeypatch.context() as before:
        before.setattr(shutil, "which", lambda _: None)
        assert native.program("hello") is None
    assert native.program("hello") is not None


def test_a_shipped_program_is_taken_as_it_is(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv9")
    shipped = sources / "riscv9" / "hello"
    shipped.parent.mkdir()
    shipped.write_text("#!/bin/sh\n")
    shipped.chmod(0o755)
    assert native.program("hello") == shipped
