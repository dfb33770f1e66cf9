"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from continuum import folders


def test_threads_that_write_the_same_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(len(contents)) as pool:
        for _ in range(20):
            list(pool.map(lambda content: folders.write_file(path, content), contents))
            assert path.read_bytes() in contents
    assert list(path.parent.iterdir()) == [path]


def test_an_open_folder_can_be_entered_whatever_the_umask(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        folders.make_open_folder(kept / "one" / "two")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (kept, kept / "one", kept / "one" / "two")]
    assert modes == [0o700, 0o755, 0o755]


def test_nobody_else_can_have_taken_the_name_that_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    victim.chmod(0o600)
    monkeypatch.setattr(os, "urandom", bytes)  # As if it had been guessed.
    (tmp_path / f".{bytes(8).hex()}.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        folders.write_file(tmp_path / "file", "ours", 0o644)
    assert victim.read_text() == "theirs"
    assert victim.stat().st_mode & 0o777 == 0o600
