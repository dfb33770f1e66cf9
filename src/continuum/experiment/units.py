"""Quantities with units, as people write them, and as we compute with them.

| quantity | written | held as |
|---|---|---|
| duration | "45 ms", "5 s", "2 min" | seconds, float |
| delay | the same | milliseconds, float |
| rate | "7.21 Mbit/s", "1 Gbit/s" | Mbit/s, float (decimal prefixes) |
| size | "2 GiB", "512 MiB", "4 GB" | bytes, int |
| disk rate | "50 MB/s", "20 MiB/s" | bytes per second, int |
| frequency | "5 Hz", "0.5 Hz" | Hz, float |
| share | "1 %" | percent, float |
| queue | "100 ms", "64 kB" | text: a time at the link's rate, or bytes |

The space before the unit may be left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6}
_MBIT = {"bit/s": 1e-6, "kbit/s": 1e-3, "Mbit/s": 1.0, "Gbit/s": 1e3}
_BYTES = {
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
    "TiB": 2.0**40,
}
_BYTES_PER_SECOND = {f"{unit}/s": factor for unit, factor in _BYTES.items()}
_HERTZ = {"mHz": 1e-3, "Hz": 1.0, "kHz": 1e3}
_PERCENT = {"%": 1.0}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*", re.ASCII)


def parse(value: object, units: Mapping[str, float], example: str) -> float:
    """A quantity in the unit whose factor is 1.

    Raises:
        ValueError: not a text of number and unit, an unknown unit, or not a finite number.
    """
    known = ", ".join(units)
    if not isinstance(value, str):
        msg = f'needs a unit, in quotes, as in "{example}"'
        raise ValueError(msg)
    written = "".join(letter if letter.isprintable() else "?" for letter in value[:40])
    match = _QUANTITY.fullmatch(value)
    if match is None:
        msg = f'"{written}" is not a number with a unit, as in "{example}"'
        raise ValueError(msg)
    number, unit = match.groups()
    if unit not in units:
        same = [name for name in units if name.lower() == unit.lower()]
        advice = f'did you mean "{same[0]}"?' if same else f"known units: {known}"
        msg = (
            f'"{written}": unknown unit; {advice}'
            if unit
            else f'"{written}" needs a unit ({known})'
        )
        raise ValueError(msg)
    result = float(number) * units[unit]
    if not math.isfinite(result):
        msg = f'"{written}" is out of range'
        raise ValueError(msg)
    return result


@dataclass(frozen=True, eq=False)
class Quantity:
    """One kind of quantity; stands in the annotation of every field that holds one.

    Attributes:
        name: what it is, one word or two.
        units: factor of every unit to the one in which it is held.
        example: how a person writes one.
        shown: units in which a person is shown one, largest first; the last has factor 1.
        whole: whether it is held as a whole number.
    """

    name: str
    units: Mapping[str, float]
    example: str
    shown: tuple[str, ...]
    whole: bool = False

    def read(self, value: object) -> float | int:
        """The number, in the unit in which it is held.

        Raises:
            ValueError: see `parse`.
        """
        if isinstance(value, (int, float)) and not isinstance(value, bool) and _Trusted.numbers:
            return value
        number = parse(value, self.units, self.example)
        return round(number) if self.whole else number

    def write(self, number: float) -> str:
        """The shortest text that `read` turns into exactly this number again."""
        for unit in self.shown:
            factor = self.units[unit]
            text = f"{number / factor:g}"
            if abs(number) >= factor and "e" not in text and self.read(f"{text} {unit}") == number:
                return f"{text} {unit}"
        return f"{repr(number).removesuffix('.0')} {self.shown[-1]}"


DURATION = Quantity("duration", _SECONDS, "60 s", ("s",))
DELAY = Quantity("delay", _MILLISECONDS, "45 ms", ("ms",))
RATE = Quantity("rate", _MBIT, "7.21 Mbit/s", ("Mbit/s",))
SIZE = Quantity("size", _BYTES, "2 GiB", ("TiB", "GiB", "MiB", "KiB", "B"), whole=True)
DISK_RATE = Quantity(
    "disk rate",
    _BYTES_PER_SECOND,
    "50 MB/s",
    ("TiB/s", "GB/s", "MB/s", "MiB/s", "kB/s", "B/s"),
    whole=True,
)
FREQUENCY = Quantity("frequency", _HERTZ, "5 Hz", ("Hz",))
SHARE = Quantity("share", _PERCENT, "1 %", ("%",))
QUANTITIES = (DURATION, DELAY, RATE, SIZE, DISK_RATE, FREQUENCY, SHARE)


def _annotations(quantity: Quantity) -> tuple[Any, ...]:
    """What makes a field hold a quantity: its validator, its JSON Schema, and itself."""
    names = "|".join(re.escape(name) for name in quantity.units)
    schema = {
        "type": "string",
        "pattern": rf"^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*({names})\s*$",
        "examples": [quantity.example],
    }
    return quantity, BeforeValidator(quantity.read), WithJsonSchema(schema)


class _Trusted:
    """Whether bare numbers are taken: only while a resolved experiment is read back."""

    numbers = False


class trusted_numbers:  # noqa: N801  a context manager, used like a function
    """Within this context bare numbers are accepted, in the unit in which they are held."""

    def __enter__(self) -> None:
        self._before = _Trusted.numbers
        _Trusted.numbers = True

    def __exit__(self, *_: object) -> None:
        _Trusted.numbers = self._before


QUEUE_EXAMPLE = "100 ms"
MOST_QUEUE_SECONDS = 60.0
MOST_QUEUE_BYTES = 2**30


def read_queue(value: object) -> str:
    """A queue's length as a person writes it: a time at its link's rate, or a size.

    Raises:
        ValueError: neither, or none that a queue can have.
    """
    number = parse(value, _SECONDS | _BYTES, QUEUE_EXAMPLE)
    text = str(value).strip()
    most = MOST_QUEUE_SECONDS if _is_time(text) else MOST_QUEUE_BYTES
    if not 0 < number <= most:
        msg = f'must be more than 0, and at most 60 s or 1 GiB, not "{text[:40]}"'
        raise ValueError(msg)
    return text


def queue_size(text: str, rate_mbit: float) -> int:
    """Bytes of a queue that `read_queue` took, at its link's rate."""
    if _is_time(text):
        return round(parse(text, _SECONDS, QUEUE_EXAMPLE) * rate_mbit * 125_000)
    return round(parse(text, _BYTES, QUEUE_EXAMPLE))


def _is_time(text: str) -> bool:
    match = _QUANTITY.fullmatch(text)
    return match is not None and match[2] in _SECONDS


@dataclass(frozen=True)
class Words:
    """The meaning of a text, where the reference says more than `text`."""

    text: str


YEAR = 366 * 86400.0

Seconds = Annotated[float, *_annotations(DURATION), Field(ge=0, le=YEAR)]
PositiveSeconds = Annotated[float, *_annotations(DURATION), Field(gt=0, le=YEAR)]
Milliseconds = Annotated[float, *_annotations(DELAY), Field(ge=0, le=60_000)]
MegabitsPerSecond = Annotated[float, *_annotations(RATE), Field(ge=0.008, le=400_000)]
Bytes = Annotated[int, *_annotations(SIZE), Field(gt=0, le=2**50)]
BytesPerSecond = Annotated[int, *_annotations(DISK_RATE), Field(ge=1000, le=2**50)]
Hertz = Annotated[float, *_annotations(FREQUENCY), Field(gt=0, le=100_000)]
Queue = Annotated[
    str,
    Words("delay or size"),
    BeforeValidator(read_queue),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": rf"^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*"
            rf"({'|'.join(re.escape(unit) for unit in _SECONDS | _BYTES)})\s*$",
            "examples": [QUEUE_EXAMPLE, "64 kB"],
        }
    ),
]
Percent = Annotated[float, *_annotations(SHARE), Field(ge=0, le=100)]


def show_queue(size: int | None, rate_mbit: float | None) -> str:
    """A link's queue as a person reads it: `270 kB, 300 ms`; "-" without a rate."""
    if size is None or rate_mbit is None:
        return "-"
    unit, factor = next(
        (each for each in (("MB", 1e6), ("kB", 1e3)) if size >= each[1]), ("B", 1.0)
    )
    return f"{size / factor:.4g} {unit}, {size / rate_mbit / 125:.3g} ms"


def show_bytes(number: int) -> str:
    """A size as a person reads it: the largest binary unit, four digits."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = int(_BYTES[unit])
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number} B"
