"""Damaged folders: results that `report` reads, and a deployment's state that all verbs read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.shared.attempt import Attempt, attempt

EXPERIMENT = """\
name = "whole"
[infrastructure]
provider = "fake"
[tiers.edge]
machines = 1
[tiers.endpoint]
machines = 1
[network]
preset = "5g"
[benchmark]
application = "image_classification"
frequency = "20 Hz"
warmup = "0.1 s"
duration = "0.3 s"
"""


@cache
def whole(work: Path) -> Path:
    """A folder in which an experiment was run once, on paper, with its state and its results."""
    folder = work / "whole"
    folder.mkdir()
    (folder / "whole.toml").write_text(EXPERIMENT)
    made = Attempt([["run", "whole.toml", "--results", "results"]], ("whole",))
    endings, _ = attempt(made, folder, limit=120.0)
    if endings[0].code not in {0, 1} or not (folder / "results" / "run.json").exists():
        raise RuntimeError(f"the experiment to be damaged did not run:\n{endings[0].errors}")
    return folder


def results(folder: Path, draw: random.Random) -> Attempt:
    """A results folder in which one to three files are damaged."""
    shutil.copytree(whole(folder.parent.parent) / "results", folder / "results")
    files = [path for path in (folder / "results").rglob("*") if path.is_file()]
    told = [path for path in files if path.suffix in {".json", ".parquet", ".toml"}]
    show = [
        _damage(path, draw)
        for path in draw.sample(told or files, min(len(told), draw.choice([1, 1, 2, 3])))
    ]
    return Attempt(
        [["report", "results"]], ("results", *(path.name for path in files)), show="\n".join(show)
    )


def state(folder: Path, draw: random.Random) -> Attempt:
    """A deployment's state in which one to three files are damaged, then some verbs and `down`."""
    base = whole(folder.parent.parent)
    shutil.copytree(base / "state", folder / "state", dirs_exist_ok=True, symlinks=True)
    shutil.copyfile(base / "whole.toml", folder / "whole.toml")
    files = sorted(path for path in (folder / "state").rglob("*") if path.is_file())
    files = [path for path in files if "deployments" in path.parts]
    show = [
        _damage(path, draw)
        for path in draw.sample(files, min(len(files), draw.choice([1, 1, 2, 3])))
    ]
    verbs = [
        ["status"],
        ["status", "--json"],
        ["up", "whole.toml"],
        ["plan", "whole.toml"],
        ["watch", "whole", "--once"],
        ["logs", "whole", "--list"],
        ["ssh-config", "whole"],
    ]
    calls = [*draw.sample(verbs, draw.choice([1, 2, 3])), ["down", "whole"], ["status"]]
    places = ("whole", "state", *{path.name for path in files})
    return Attempt(calls, places, show="\n".join(show))


def _folder_of_its_name(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.symlink_to(draw.choice([path.name, "/dev/null", "/nowhere", "/etc/hostname"]))


def _turned(content: bytes, draw: random.Random) -> bytes:
    turned = bytearray(content or b"x")
    for _ in range(draw.randrange(1, 12)):
        turned[draw.randrange(len(turned))] = draw.randrange(256)
    return bytes(turned)


def _deep(draw: random.Random) -> bytes:
    depth = draw.choice([100, 5_000, 200_000])
    return b"[" * depth + b"]" * depth


_OTHER_CONTENTS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "emptied": lambda _, __: b"",
    "cut": lambda content, draw: content[: draw.randrange(len(content) + 1)],
    "turned": _turned,
    "deep": lambda _, draw: _deep(draw),
    "other": lambda _, draw: draw.choice(
        [b"null", b"[]", b"{}", b"1", b'"x"', b"\xff\xfe", b"NaN"]
    ),
    "a quote gone": lambda content, draw: content.replace(
        b'"', draw.choice([b"", b'"\\u001b[31m', b"'"]), 1
    ),
    "random": lambda _, draw: draw.randbytes(300),
}
_OTHER_FILES: dict[str, Callable[[Path, random.Random], None]] = {
    "gone": lambda path, _: path.unlink(),
    "a folder": _folder_of_its_name,
    "a link": _link,
}


def _damage(path: Path, draw: random.Random) -> str:
    """Damage one file; says how."""
    if path.suffix == ".parquet" and draw.random() < 0.6:
        return _damage_table(path, draw)
    how = draw.choice([*_OTHER_CONTENTS, *_OTHER_FILES])
    if how in _OTHER_FILES:
        _OTHER_FILES[how](path, draw)
    else:
        path.write_bytes(_OTHER_CONTENTS[how](path.read_bytes(), draw))
    return f"{path.name}: {how}"


def _damage_table(path: Path, draw: random.Random) -> str:
    """A table that can be read and is not as it should be."""
    table = pq.read_table(path)
    position = draw.randrange(table.num_columns)
    name = table.column_names[position]
    how = draw.randrange(6)
    match how:
        case 0:
            table = table.drop_columns([name])
        case 1:
            texts = pa.array([draw.choice(["x", "\x1b[31m", ""])] * table.num_rows)
            table = table.set_column(position, name, texts)
        case 2:
            table = table.set_column(
                position, name, pa.nulls(table.num_rows, table.schema.types[position])
            )
        case 3:
            numbers = pa.array([draw.choice([0, -1, 2**62])] * table.num_rows, pa.int64())
            table = table.set_column(position, name, numbers)
        case 4:
            table = table.slice(0, draw.choice([0, 1]))
        case 5:
            table = table.append_column("more", pa.nulls(table.num_rows))
    pq.write_table(table, path)
    return f"{path.name}: table damage {how} of {name}"
