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
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_MILLISECONDS = {unit: factor * 1e3 for unit, factor in _SECONDS.items()}
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

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*")


def parse(value: object, units: dict[str, float], example: str) -> float:
    """A quantity in the unit whose factor is 1.

    Raises:
        ValueError: not a text of number and unit, an unknown unit, or not a finite number.
    """
    known = ", ".join(units)
    if isinstance(value, bool) or not isinstance(value, str):
        msg = f'needs a unit, as in "{example}"'
        raise ValueError(msg)
    match = _QUANTITY.fullmatch(value)
    if match is None:
        msg = f'"{value[:40]}" is not a number with a unit, as in "{example}"'
        raise ValueError(msg)
    number, unit = match.groups()
    if unit not in units:
        same = [name for name in units if name.lower() == unit.lower()]
        advice = f'did you mean "{same[0]}"?' if same else f"known units: {known}"
        msg = f'unknown unit "{unit[:20]}"; {advice}' if unit else f"needs a unit ({known})"
        raise ValueError(msg)
    result = float(number) * units[unit]
    if not math.isfinite(result):
        msg = f'"{value[:40]}" is out of range'
        raise ValueError(msg)
    return result


def _quantity(units: dict[str, float], example: str, *, whole: bool = False) -> tuple[Any, ...]:
    """Validator and JSON Schema of one kind of quantity. Numbers pass: they are in our unit."""

    def read(value: object) -> float | int:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and _Trusted.numbers:
            return value
        number = parse(value, units, example)
        return round(number) if whole else number

    names = "|".join(re.escape(name) for name in units)
    schema = {
        "type": "string",
        "pattern": rf"^\s*[0-9.]+([eE][+-]?[0-9]+)?\s*({names})\s*$",
        "examples": [example],
    }
    return BeforeValidator(read), WithJsonSchema(schema)


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


YEAR = 366 * 86400.0

Seconds = Annotated[float, *_quantity(_SECONDS, "60 s"), Field(ge=0, le=YEAR)]
PositiveSeconds = Annotated[float, *_quantity(_SECONDS, "60 s"), Field(gt=0, le=YEAR)]
Milliseconds = Annotated[float, *_quantity(_MILLISECONDS, "45 ms"), Field(ge=0, le=60_000)]
MegabitsPerSecond = Annotated[float, *_quantity(_MBIT, "7.21 Mbit/s"), Field(ge=0.008, le=400_000)]
Bytes = Annotated[int, *_quantity(_BYTES, "2 GiB", whole=True), Field(gt=0, le=2**50)]
BytesPerSecond = Annotated[
    int, *_quantity(_BYTES_PER_SECOND, "50 MB/s", whole=True), Field(ge=1000, le=2**50)
]
Hertz = Annotated[float, *_quantity(_HERTZ, "5 Hz"), Field(gt=0, le=100_000)]
Percent = Annotated[float, *_quantity(_PERCENT, "1 %"), Field(ge=0, le=100)]


def show_bytes(number: int) -> str:
    """A size as a person writes it: the largest binary unit that leaves no more than one digit."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = int(_BYTES[unit])
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number} B"
