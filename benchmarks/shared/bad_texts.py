"""Broken experiments: texts that are no TOML or no `.cfg`, settings and variables that say nothing.

Every one is made from a random generator alone, so a seed and a number make it again.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from benchmarks.shared.attempt import Attempt
from pydantic import BaseModel

from continuum.experiment import cfg, fields
from continuum.experiment.document import KeyPath
from continuum.experiment.units import Quantity

PAYLOADS = (
    *("$(touch made)", "`touch made`", "; touch made", "| touch made", "' || touch made '"),
    *("{{ 7 * 7 }}", "{% raw %}", "<script>alert(1)</script>", "\x1b[31mred", "\x1b]0;title\x07"),
    *("../../made", "/etc/passwd", "a\x00b", "\u202eabc", "\ud7ff", "\U0001f600", "%s%n", "-rf"),
    *("\r\nX: y", "a" * 300, "é" * 40, "\t", " ", ""),
)
"""Texts that mean something to a shell, a template, a browser or a terminal."""

NUMBERS = (
    *("0", "-1", "1", "-0.0", "0.5", "1e308", "1e309", "-1e308", "1e-320", "inf", "nan", "-inf"),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1_000", "0x7f", "07"),
    *("1" * 30, "9" * 4400, "1.5.2", "2026-11-30", "07:32:00", "+1"),
)
UNITS = (
    *("ms", "s", "min", "h", "us", "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "B", "kB", "MB", "GB"),
    *("GiB", "TiB", "B/s", "MB/s", "Hz", "kHz", "%", "", "Mbps", "foo", "\x00"),
)

TOML = """\
name = "sample"
[infrastructure]
provider = "fake"
internet = false
cpu_pin = false
address_block = "10.20.0.0"
[infrastructure.fake]
loss = 0.5
[tiers.cloud]
machines = 1
cores = 2
quota = 0.5
memory = "2 GiB"
disk_read = "50 MB/s"
[tiers.edge]
machines = 2
memory = "1 GiB"
[tiers.endpoint]
machines = 2
cores = 1
memory = "512 MiB"
[network]
preset = "4g"
all_pairs = false
[[network.links]]
between = ["cloud", "edge"]
delay = "10 ms"
jitter = "1 ms"
rate = "100 Mbit/s"
loss = "1 %"
[[network.links]]
from = "edge-1"
to = "endpoint"
delay = "3 ms"
[software]
manager = "none"
execution_model = "process"
services = ["mqtt"]
observability = false
[benchmark]
application = "image_classification"
workers = "edge"
frequency = "5 Hz"
arrivals = "poisson"
warmup = "1 s"
duration = "5 s"
repetitions = 2
seed = 7
"""
CFG = """\
[infrastructure]
provider = qemu
infra_only = False
cloud_nodes = 2
edge_nodes = 0
endpoint_nodes = 2
cloud_cores = 4
cloud_memory = 4
cloud_quota = 1.0
endpoint_cores = 1
endpoint_memory = 1
endpoint_quota = 0.5
cloud_read_speed = 50
network_emulation = True
wireless_network_preset = 4g
cloud_endpoint_latency_avg = 45
cloud_endpoint_throughput = 7.21
base_path = ~
prefixIP = 10.20
middleIP = 100
middleIP_base = 90
delete = False
[benchmark]
resource_manager = kubernetes
application = image_classification
frequency = 5
duration = 60
application_worker_cpu = 0.5
kube_version = v1.27.0
observability = True
[execution_model]
model = openfaas
"""
FILE = "broken"


def _value(draw: random.Random) -> str:
    """A value as TOML might have it."""
    return draw.choice(_VALUES)(draw)


def _nested(draw: random.Random) -> str:
    depth = draw.choice([1, 2, 20, 120, 3000])
    return "[" * depth + _value(draw) * draw.randrange(2) + "]" * (depth * draw.randrange(2))


def _tables(draw: random.Random) -> str:
    depth = draw.choice([1, 2, 20, 120])
    return "{a = " * depth + "1" + "}" * depth


def _letters(draw: random.Random) -> str:
    """Letters of any kind, half of them of ASCII."""
    codes = (draw.choice([draw.randrange(32, 127), draw.randrange(1, 0xD7FF)]) for _ in range(12))
    return "".join(map(chr, codes))[: draw.randrange(13)]


_VALUES: tuple[Callable[[random.Random], str], ...] = (
    lambda draw: draw.choice(NUMBERS),
    lambda draw: f'"{draw.choice(NUMBERS)} {draw.choice(UNITS)}"',
    lambda draw: f'"{draw.choice(PAYLOADS)}"',
    lambda draw: draw.choice(["true", "false", "True", "none", "null", "", "=", "'''", '"""']),
    _nested,
    _tables,
    lambda draw: f"[{', '.join(_value(draw) for _ in range(draw.randrange(5)))}]",
    _letters,
)


def _key(draw: random.Random) -> str:
    paths = [path for path, _ in fields.tables()]
    path = draw.choice(paths)
    table = next(model for known, model in fields.tables() if known == path)
    key = draw.choice([*fields.keys(table), "nosuch", *(["settings"] * (draw.random() < 0.2))])
    if draw.random() < 0.2:
        position = draw.randrange(len(key) + 1)
        key = (
            key[:position] + draw.choice(["", "x", "_", "\t", '"', ".", "é"]) + key[position + 1 :]
        )
    parts = [*(str(part) for part in path), key]
    return ".".join(
        part.replace("NAME", draw.choice(["edge", "cloud", "new", "é"])) for part in parts
    )


Lines = list[str]
Value = Callable[[random.Random], str]

_HEADERS = ("tiers", "network", "tiers.edge", "x", "", "[", "tiers.é", "infrastructure", "DEFAULT")
_CHANGES: tuple[Callable[[Lines, int, random.Random, Value], object], ...] = (
    lambda lines, at, _, __: lines.pop(at),
    lambda lines, at, draw, _: lines.insert(draw.randrange(len(lines)), lines[at]),
    *([lambda lines, at, draw, value: _set(lines, at, f"{_left(lines[at])} = {value(draw)}")] * 4),
    lambda lines, at, draw, value: lines.insert(
        at, f"{draw.choice(['nosuch', _left(lines[at]), 'é', '', '=', '.'])} = {value(draw)}"
    ),
    lambda lines, at, draw, _: _set(lines, at, lines[at][: draw.randrange(len(lines[at]) + 1)]),
    lambda lines, at, draw, _: _set(lines, at, _with_more(lines[at], draw)),
    lambda lines, at, draw, _: lines.insert(at, f"[{draw.choice(_HEADERS)}]"),
    lambda lines, at, _, __: _set(lines, at, lines[at].upper()),
    lambda lines, _, draw, __: _set_all(
        lines, [each for each in lines if not each.startswith("[") or draw.random() < 0.7]
    ),
    lambda lines, at, draw, value: _set(
        lines, at, f"{_left(lines[at])}{draw.choice(['.x', '.0', ' .', ' x'])} = {value(draw)}"
    ),
    lambda lines, at, _, __: _set_all(lines, lines[: at + 1]),
)
"""Ways to break a text: its lines, the position of one, and how a value is drawn."""


def _left(line: str) -> str:
    return line.partition("=")[0].strip()


def _set(lines: Lines, at: int, line: str) -> None:
    lines[at] = line


def _set_all(lines: Lines, new: Lines) -> None:
    lines[:] = new


def _with_more(line: str, draw: random.Random) -> str:
    cut = draw.randrange(len(line) + 1)
    return line[:cut] + draw.choice([*PAYLOADS, '"', "[", "]", "=", "#", " # x"]) + line[cut:]


def _broken(text: str, draw: random.Random, value: Value) -> str:
    """A text with one to four changes."""
    lines = text.splitlines()
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        draw.choice(_CHANGES)(lines, draw.randrange(len(lines)), draw, value)
        lines = lines or [""]
    return draw.choice(["\n", "\n", "\n", "\r\n", "\r"]).join(lines)


def _calls(file: str, draw: random.Random, *more: str, text: str = "") -> list[list[str]]:
    provider = ["--provider", "fake"] if draw.random() < 0.5 else []
    verb = draw.choice(["validate", "validate", "plan"])
    if any("host" in each or "@" in each for each in (text, *more)):
        verb = "validate"  # `plan` looks at other hosts, by SSH.
    return [[verb, *provider, *more, "--", file]]


def _text_attempt(text: bytes, suffix: str, folder: Path, draw: random.Random) -> Attempt:
    file = f"{FILE}{suffix}"
    (folder / file).write_bytes(text)
    return Attempt(
        _calls(file, draw, text=text.decode(errors="replace").lower()),
        (file, "--provider"),
        text=True,
        reads=True,
        show=text[:3000].decode(errors="replace"),
    )


def toml(folder: Path, draw: random.Random) -> Attempt:
    """A TOML file with some changes."""
    text = _broken(TOML, draw, _value)
    return _text_attempt(text.encode("utf-8", "surrogatepass"), ".toml", folder, draw)


def legacy(folder: Path, draw: random.Random) -> Attempt:
    """A `.cfg` file with some changes."""

    def value(draw: random.Random) -> str:
        words = [
            "True",
            "no",
            "qemu",
            "gcp",
            "terraform",
            "mist",
            "kubeedge",
            "none",
            "4g",
            "",
            "0",
        ]
        return draw.choice(
            [
                draw.choice(words),
                draw.choice(NUMBERS),
                draw.choice(PAYLOADS),
                f"1 # {draw.choice(NUMBERS)}",
                _value(draw),
            ]
        )

    text = CFG
    for _ in range(draw.randrange(3)):
        option = draw.choice([name for options in cfg.SECTIONS.values() for name in options])
        section = draw.choice(["[infrastructure]", "[benchmark]"])
        text = text.replace(section, f"{section}\n{option} = {value(draw)}", 1)
    text = _broken(text, draw, value)
    return _text_attempt(text.encode("utf-8", "surrogatepass"), ".cfg", folder, draw)


def octets(folder: Path, draw: random.Random) -> Attempt:
    """A file whose bytes are broken: cut, turned, or of something else."""
    suffix, text = draw.choice([(".toml", TOML), (".cfg", CFG)])
    content = bytearray(
        text.encode(draw.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    )
    match draw.randrange(5):
        case 0:
            for _ in range(draw.randrange(1, 30)):
                content[draw.randrange(len(content))] = draw.randrange(256)
        case 1:
            del content[draw.randrange(len(content)) :]
        case 2:
            content = bytearray(draw.randbytes(draw.randrange(200)))
        case 3:
            position = draw.randrange(len(content))
            content[position:position] = draw.choice(
                [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J", b"\x85"]
            )
        case 4:
            content *= draw.choice([2, 50])
    return _text_attempt(bytes(content), suffix, folder, draw)


def setting(folder: Path, draw: random.Random) -> Attempt:
    """A right file, and `--set` with what it cannot mean."""
    suffix, text = draw.choice([(".toml", TOML), (".cfg", CFG)])
    file = f"{FILE}{suffix}"
    (folder / file).write_text(text)
    given = [
        draw.choice(
            [f"{_key(draw)}={_argument(draw)}", f"{_key(draw)}={_argument(draw)}", _argument(draw)]
        )
        for _ in range(draw.choice([1, 1, 2, 4]))
    ]
    more = [part for each in given for part in ("--set", each)]
    return Attempt(
        _calls(file, draw, *more), ("--set", file, "--provider"), reads=True, show="\n".join(given)
    )


def _argument(draw: random.Random) -> str:
    """A value without the one byte that no argument and no variable can hold."""
    return _value(draw).replace("\0", "\x01")


def variable(folder: Path, draw: random.Random) -> Attempt:
    """A right file, and a variable of the environment with what it cannot mean."""
    suffix, text = draw.choice([(".toml", TOML), (".cfg", CFG)])
    file = f"{FILE}{suffix}"
    (folder / file).write_text(text)
    given = {
        f"CONTINUUM_SET__{_key(draw).upper().replace('.', '__').replace('=', '')}": _argument(draw)
        for _ in range(draw.choice([1, 1, 2, 4]))
    }
    return Attempt(
        _calls(file, draw, text=repr(given).lower()),
        ("CONTINUUM_SET__", file, "--provider"),
        given,
        reads=True,
        show=repr(given),
    )


# -- near-valid experiments ----------------------------------------------------------------------

_WORDS = (
    "",
    "edge",
    "cloud",
    "endpoint",
    "edge-1",
    "none",
    "kubernetes",
    "kubeedge",
    "auto",
    "mqtt",
)
_NAMED = {
    "provider": (*("fake",) * 8, "lxc", "nosuch"),
    "application": (
        *("image_classification",) * 8,
        *("command", "container") * 3,
        "empty",
        "nosuch",
    ),
    "manager": (*("none",) * 6, *("kubernetes", "kubeedge") * 3, "nosuch"),
    "execution_model": ("process", "container", "function"),
    "emulator": (*("auto", "nfqueue", "netem") * 4, "nosuch"),
    "workers": (*("", "edge", "cloud") * 3, "endpoint", "a"),
    "endpoints": (*("endpoint",) * 8, "", "a"),
    "address_block": ("10.0.0.0", "172.31.255.0", "192.168.255.0", "10.255.255.0", "8.8.8.0"),
    "queue": (*("100 ms", "1 B", "60 s", "1 GiB") * 3, "0 B", "1 ns"),
}
"""Words for keys whose values are names."""
_SELDOM = frozenset({"hosts", "bridge", "accept"})


def _end(metadata: Sequence[Any], draw: random.Random, usual: Sequence[float]) -> float:
    """A number at an end of what it may be, or a usual one; now and then one that may not be."""

    def told(*names: str) -> list[float]:
        found = [getattr(each, name, None) for each in metadata for name in names]
        return [float(each) for each in found if each is not None]

    low, high = max(told("ge", "gt"), default=0.0), min(told("le", "lt"), default=2.0**40)
    number = draw.choice([low, high, *usual])
    return number if draw.random() < 0.05 else min(max(number, low), high)


def _number(metadata: Sequence[Any], draw: random.Random, *, whole: bool) -> str:
    if draw.random() < 0.02:
        return draw.choice(NUMBERS)
    number = _end(metadata, draw, (1.0, 1.0, 2.0, 0.5))
    return str(int(number) or 1) if whole else repr(number)


def _quantity(quantity: Quantity, metadata: Sequence[Any], draw: random.Random) -> str:
    if draw.random() < 0.02:
        return f'"{draw.choice(NUMBERS)} {draw.choice(UNITS)}"'
    number = _end(metadata, draw, (1.0, 60.0, 2.0**30, 0.001))
    return f'"{quantity.write(round(number) if quantity.whole else number)}"'


def _list_of(kind: object, draw: random.Random, depth: int) -> str:
    count = draw.choice([0, 0, 1, 2])
    return f"[{', '.join(_extreme('', kind, (), draw, depth + 1) for _ in range(count))}]"


def _inline(table: type[BaseModel], draw: random.Random, depth: int) -> str:
    inner = [
        f"{key} = {_extreme(key, each.kind, each.metadata, draw, depth + 1)}"
        for key, each in fields.keys(table).items()
        if draw.random() < 0.3
    ]
    return f"{{ {', '.join(inner)} }}"


def _extreme(
    key: str,
    kind: object,
    metadata: Sequence[Any],
    draw: random.Random,
    depth: int = 0,
) -> str:
    """A value of a field's own kind, most often at an end of what it may be."""
    spot = fields.Spot(kind, tuple(metadata))
    found = _value(draw) if draw.random() < 0.01 else ""
    if key in _NAMED:
        found = f'"{draw.choice(_NAMED[key])}"'
    elif spot.table is not None and depth < 3:
        found = _inline(spot.table, draw, depth)
    elif spot.quantity is not None:
        found = _quantity(spot.quantity, metadata, draw)
    elif spot.choices:
        found = f'"{draw.choice(spot.choices)}"'
    elif kind is bool:
        found = draw.choice(["true", "false"])
    elif kind in {int, float}:
        found = _number(metadata, draw, whole=kind is int)
    elif get_origin(kind) is tuple:
        found = _list_of(get_args(kind)[0], draw, depth)
    elif get_origin(kind) in {types.UnionType, Union}:
        found = _extreme("", draw.choice(get_args(kind)), (), draw, depth + 1)
    return found or f'"{draw.choice(_WORDS)}"'


def near(folder: Path, draw: random.Random) -> Attempt:
    """An experiment of known keys, many at an end of what they may be."""
    lines = [f'name = "{draw.choice(["near", "a", "n" * 31, "edge-1"])}"']
    names = ["edge", "cloud", "endpoint", "a", "all"]
    tiers = draw.sample(names, draw.choice([1, 2, 3])) + ["endpoint"] * (draw.random() < 0.7)
    tables: list[tuple[str, KeyPath]] = [
        (f"tiers.{tier}", ("tiers", tier)) for tier in dict.fromkeys(tiers)
    ]
    tables += [
        (name, (name,))
        for name in ("infrastructure", "network", "software", "benchmark")
        if draw.random() < 0.7
    ]
    for name, path in tables:
        spot = fields.spot(path)
        assert spot is not None
        assert spot.table is not None
        lines.append(f"[{name}]")
        share = draw.choice([0.05, 0.1, 0.3])
        lines += [
            f"{key} = {_extreme(key, each.kind, each.metadata, draw)}"
            for key, each in fields.keys(spot.table).items()
            if key == "application" or (draw.random() < share and key not in _SELDOM)
        ]
        for application in ("command", "container"):
            if f'application = "{application}"' in lines:
                lines += [f"[benchmark.{application}]", 'endpoint = ["true"]', 'worker = ["true"]']
    text = "\n".join(lines) + "\n"
    file = f"{FILE}.toml"
    (folder / file).write_text(text)
    verb = "validate" if "hosts" in text else draw.choice(["plan", "plan", "validate"])
    return Attempt(
        [[verb, "--provider", "fake", "--", file]],
        (file, "--provider"),
        text=True,
        reads=True,
        show=text,
    )
