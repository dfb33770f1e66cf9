"""Damage done to files, seeded: bytes, types of values, and the kinds of files themselves."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEEP = b"[" * 200_000
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3.5, 1e308, 10**400, "", "x", "\x00\x1b[31m", "ü" * 300, [], {}, [[]], [None], {"a": {}},
)  # fmt: skip
CONTENTS = (
    b"",
    b"\n",
    b"{",
    b"[]",
    b"{}",
    b"null",
    b"3",
    b'"text"',
    b"\xff\xfe\x00",
    b'{"a": "\\ud800"}',
    b"NaN",
    DEEP,
    b'{"a":' * 50_000,
    b"9" * 10_000,
    b"\x00" * 5000,
)
KEPT_KEYS = frozenset({"provider", "hosts"})
"""They name a plug-in that is not installed, or a host that does not answer: no damage to be seen."""


def bytes_of(rng: random.Random, content: bytes) -> bytes:
    """Other content: cut, with other bytes, with another value, or another one altogether."""
    ways: list[Callable[[], bytes]] = [
        lambda: rng.choice(CONTENTS),
        lambda: content[: rng.randrange(len(content) + 1)],
        lambda: _flipped(rng, content),
        lambda: content + rng.choice(CONTENTS),
        lambda: _other_value(rng, content),
        lambda: _other_value(rng, content),
        lambda: _other_value(rng, content),
    ]
    return rng.choice(ways)()


def _flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 5) if changed else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _other_value(rng: random.Random, content: bytes) -> bytes:
    """The same JSON with one value that is another, or gone; lines of JSON have one of them so."""
    lines = content.splitlines(keepends=True)
    try:
        value = json.loads(content)
    except ValueError:
        if len(lines) < 2:
            return rng.choice(CONTENTS)
        at = rng.randrange(len(lines))
        lines[at] = _other_value(rng, lines[at]) + b"\n"
        return b"".join(lines)
    places = [each for each in _places(value) if each[1] not in KEPT_KEYS]
    if not places:
        return rng.choice(CONTENTS)
    holder, key = rng.choice(places)
    if rng.random() < 0.25:
        del holder[key]
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict | list) else []
    keys = list(range(len(keys))) if isinstance(value, list) else keys
    for key in keys:
        yield value, key
        if key not in KEPT_KEYS and isinstance(value[key], dict | list):
            yield from _places(value[key])


def damage(rng: random.Random, folder: Path, outside: Path) -> str:
    """Damage one file or folder in a folder, or that itself; says how. `outside` is led to by links."""
    there = sorted([folder, *folder.rglob("*")])
    files = [each for each in there if each.is_file() and not each.is_symlink()]
    if files and rng.random() < 0.6:
        path = rng.choice(files)
        path.write_bytes(bytes_of(rng, path.read_bytes()))
        return f"content of {path.relative_to(folder)}"
    path = rng.choice(there)
    named = str(path.relative_to(folder))
    way = rng.choice(("gone", "file", "folder", "link", "loop", "fifo", "socket", "sparse", "full"))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    _put(rng, path, way, outside)
    return f"{named}: {way}"


def _put(rng: random.Random, path: Path, way: str, outside: Path) -> None:
    """Put something else where a file or folder was."""
    targets = (outside, outside / "file", Path("/dev/zero"), Path("/nowhere"))
    ways: dict[str, Callable[[], object]] = {
        "gone": lambda: None,
        "file": lambda: path.write_bytes(rng.choice(CONTENTS)),
        "folder": path.mkdir,
        "full": lambda: (path / "inner").mkdir(parents=True),
        "link": lambda: path.symlink_to(rng.choice(targets)),
        "loop": lambda: path.symlink_to(path),
        "fifo": lambda: os.mkfifo(path),
        "socket": lambda: _socket(path),
        "sparse": lambda: _sparse(path),
    }
    ways[way]()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # The whole path may be too long for one.
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name[:100])
    finally:
        os.chdir(before)
