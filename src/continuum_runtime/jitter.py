"""Jitter as a process in time, equal in the user-space emulator's two programs.

What a packet waits depends on when it arrives, never on the packets before it. On one path, a
queue and a source address, at time `t` in slot `k = floor(t / T)`:

    D(t) = max(0, centre + spread · (cos θ · z(k) + sin θ · z(k + 1))),   θ = π/2 · (t − kT) / T

where `z(k)` are independent standard normal numbers. Since cos² + sin² = 1, D before the cut at 0
is normal with that centre and spread at every `t`: mean and deviation are the same at one packet a
second and at ten thousand. Its slope has a deviation of `spread · π / 2T`; with `T = 2π · spread`
that is 1/4, so that it is below −1, where a packet would overtake the one before, at 4 deviations:
in 0.003 % of the time. Those packets wait for the one before them.

`centre` and `spread` are chosen so that mean and deviation **after** the cut are those asked for:
the moments of the rectified normal distribution, with α = centre / spread, density φ and
distribution Φ, are

    mean = spread · (φ(α) + α Φ(α)),   second moment = spread² · ((1 + α²) Φ(α) + α φ(α))

(Socci, Lee & Seung 1998, "The rectified Gaussian distribution"). Deviation / mean falls with α, which is
found by bisection.

`z(k)` comes from a counter, so nothing is kept between packets: SplitMix64's output function
(Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195) of `key + n · 0x9E3779B97F4A7C15`, for n = 2k and 2k + 1, and
Box and Muller's transform of these two (1958, doi:10.1214/aoms/1177706645).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SLOT = 2 * math.pi
"""Length of a slot in spreads, as time."""

GOLDEN = 0x9E3779B97F4A7C15
WORD = 2**64 - 1

_LEAST, _MOST = -5.0, 8.0
"""Bounds of centre / spread: at −5 the deviation is 2,000 times the mean; at 8 nothing is cut."""


@dataclass(frozen=True)
class Process:
    """Jitter of one link, in nanoseconds: `slot` is a whole number, 0 where there is no jitter."""

    centre: float
    spread: float
    slot: int


def process(mean: float, deviation: float) -> Process:
    """The process that has this mean and deviation, both in nanoseconds, never below 0.

    A mean of 0, or below a thousandth of the deviation, cannot have it: then the mean is that of the
    half normal distribution with the deviation asked for.
    """
    if deviation <= 0:
        return Process(mean, 0.0, 0)
    if mean >= _MOST * deviation:
        return Process(mean, deviation, _slot(deviation))
    if mean < deviation / 1000:
        first, second = _moments(0.0)
        spread = deviation / math.sqrt(second - first**2)
        return Process(0.0, spread, _slot(spread))
    low, high = _LEAST, _MOST
    for _ in range(100):
        middle = (low + high) / 2
        first, second = _moments(middle)
        if second - first**2 > (deviation / mean * first) ** 2:
            low = middle
        else:
            high = middle
    spread = mean / _moments(low)[0]
    return Process(low * spread, spread, _slot(spread))


def _slot(spread: float) -> int:
    return max(1, round(SLOT * spread))


def _moments(alpha: float) -> tuple[float, float]:
    """First and second moment of max(0, a normal number with mean `alpha` and deviation 1)."""
    density = math.exp(-alpha * alpha / 2) / math.sqrt(2 * math.pi)
    below = math.erfc(-alpha / math.sqrt(2)) / 2
    return density + alpha * below, (1 + alpha * alpha) * below + alpha * density


def mix(word: int) -> int:
    """SplitMix64's output function of a 64-bit word."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & WORD
    return word ^ (word >> 31)


def key(seed: int, source: int) -> int:
    """The key of a path: of a queue's 64-bit seed, and an IPv4 address as a number."""
    return mix((seed + (source + 1) * GOLDEN) & WORD)


def draw(key: int, number: int) -> int:
    """The random 64-bit word of that number."""
    return mix((key + number * GOLDEN) & WORD)


def normal(key: int, slot: int) -> float:
    """The standard normal number at the beginning of a slot."""
    radius = ((draw(key, 2 * slot) >> 11) + 1) * 2.0**-53
    angle = (draw(key, 2 * slot + 1) >> 11) * 2.0**-53
    return math.sqrt(-2 * math.log(radius)) * math.cos(2 * math.pi * angle)


def delay(process: Process, key: int, at: int) -> float:
    """Nanoseconds that a packet waits which arrives at that time, in nanoseconds of any clock."""
    if not process.slot:
        return process.centre
    slot, rest = divmod(at, process.slot)
    angle = math.pi / 2 * (rest / process.slot)
    wave = math.cos(angle) * normal(key, slot) + math.sin(angle) * normal(key, slot + 1)
    return max(0.0, process.centre + process.spread * wave)
