"""Quantities: what is read, what is refused and how, and that writing is exact."""

from __future__ import annotations

import re

import pytest

from continuum.experiment import units
from continuum.experiment.units import Quantity


@pytest.mark.parametrize(
    ("quantity", "text", "held"),
    [
        (units.DURATION, "60 s", 60.0),
        (units.DURATION, "2min", 120.0),
        (units.DURATION, "45 ms", 0.045),
        (units.DURATION, " 1.5  h ", 5400.0),
        (units.DELAY, "7.5 ms", 7.5),
        (units.DELAY, "250 µs", 0.25),
        (units.DELAY, "1 s", 1000.0),
        (units.RATE, "7.21 Mbit/s", 7.21),
        (units.RATE, "1 Gbit/s", 1000.0),
        (units.SIZE, "2 GiB", 2**31),
        (units.SIZE, "4 GB", 4_000_000_000),
        (units.SIZE, "0.5GiB", 2**29),
        (units.DISK_RATE, "50 MB/s", 50_000_000),
        (units.FREQUENCY, "0.5 Hz", 0.5),
        (units.FREQUENCY, "5e2 mHz", 0.5),
        (units.SHARE, "1.5 %", 1.5),
    ],
)
def test_reads(quantity: Quantity, text: str, held: float) -> None:
    assert quantity.read(text) == held


@pytest.mark.parametrize(
    ("quantity", "value", "message"),
    [
        (units.DURATION, 60, 'needs a unit, in quotes, as in "60 s"'),
        (units.DURATION, True, 'needs a unit, in quotes, as in "60 s"'),
        (units.DURATION, "60", '"60" needs a unit (us, µs, ms, s, min, h)'),
        (units.DURATION, "60 sec", '"60 sec": unknown unit; known units: us, µs, ms, s, min, h'),
        (units.RATE, "7 MBit/s", '"7 MBit/s": unknown unit; did you mean "Mbit/s"?'),
        (units.RATE, "7 MB/s", '"7 MB/s": unknown unit; known units: bit/s'),
        (units.SIZE, "2 gib", '"2 gib": unknown unit; did you mean "GiB"?'),
        (units.SIZE, "two GiB", '"two GiB" is not a number with a unit'),
        (units.SIZE, "", '"" is not a number with a unit'),
        (units.SIZE, "1 2 GiB", '"1 2 GiB" is not a number with a unit'),
        (units.DURATION, "1e999 s", '"1e999 s" is out of range'),
        (units.DURATION, "inf s", '"inf s" is not a number with a unit'),
        (units.DURATION, "nan s", '"nan s" is not a number with a unit'),
        (units.DURATION, "٣ s", '"٣ s" is not a number with a unit'),
        (units.DURATION, "5 \x1b[31m", '"5 ?[31m": unknown unit'),
    ],
)
def test_refuses_in_plain_words(quantity: Quantity, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        quantity.read(value)


@pytest.mark.parametrize(
    ("quantity", "held", "text"),
    [
        (units.SIZE, 2**31, "2 GiB"),
        (units.SIZE, 3 * 2**29, "1.5 GiB"),
        (units.SIZE, 2**31 + 1, "2147483649 B"),
        (units.DISK_RATE, 50_000_000, "50 MB/s"),
        (units.RATE, 7.21, "7.21 Mbit/s"),
        (units.DURATION, 300.0, "300 s"),
        (units.DURATION, 0.0, "0 s"),
        (units.DELAY, 1e-5, "1e-05 ms"),
    ],
)
def test_writes_as_a_person_would(quantity: Quantity, held: float, text: str) -> None:
    assert quantity.write(held) == text


def test_bare_numbers_are_for_resolved_experiments_only() -> None:
    with units.trusted_numbers():
        assert units.DURATION.read(60.0) == 60.0
    with pytest.raises(ValueError, match="needs a unit"):
        units.DURATION.read(60.0)


def test_trust_ends_also_after_an_error() -> None:
    with pytest.raises(RuntimeError), units.trusted_numbers():
        raise RuntimeError
    with pytest.raises(ValueError, match="needs a unit"):
        units.DELAY.read(1)


def test_shows_sizes() -> None:
    assert units.show_bytes(2**30) == "1 GiB"
    assert units.show_bytes(68_000) == "66.41 KiB"
    assert units.show_bytes(12) == "12 B"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100 ms", 125_000),
        ("0.1s", 125_000),
        ("64 kB", 64_000),
        (" 1 MiB ", 2**20),
        ("1514 B", 1514),
    ],
)
def test_a_queue_is_a_time_at_the_rate_or_a_size(text: str, size: int) -> None:
    assert units.queue_size(units.read_queue(text), 10.0) == size


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (100, 'needs a unit, in quotes, as in "100 ms"'),
        ("100", "needs a unit"),
        ("100 KB", 'did you mean "kB"?'),
        ("10 Mbit/s", "unknown unit"),
        ("0 ms", "more than 0"),
        ("-5 kB", "more than 0"),
        ("61 s", "at most 60 s or 1 GiB"),
        ("2 GiB", "at most 60 s or 1 GiB"),
    ],
)
def test_what_is_no_queue_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        units.read_queue(value)


@pytest.mark.parametrize(
    ("size", "rate", "text"),
    [
        (270_375, 7.21, "270.4 kB, 300 ms"),
        (2_500_000, 1000.0, "2.5 MB, 20 ms"),
        (500, 1.0, "500 B, 4 ms"),
        (None, 1.0, "-"),
        (500, None, "-"),
    ],
)
def test_a_queue_is_shown_with_its_time(size: int | None, rate: float | None, text: str) -> None:
    assert units.show_queue(size, rate) == text
