"""Places in which a word that ought to be secret shows: in lists of processes while a block runs, in files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def watched(word: bytes) -> Iterator[set[bytes]]:
    """The command lines that held a word at any time."""
    found: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while True:
            ended = over.is_set()
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    line = path.read_bytes()
                    if word in line:
                        found.add(line)
            if ended:
                return
            # Not without a pause, which would be a load on what is measured.
            over.wait(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def holding(folder: Path, word: bytes) -> list[Path]:
    """The files below a folder that hold a word."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if word in path.read_bytes()]
