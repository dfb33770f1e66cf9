"""The emulator's jitter of many packets at once; the same numbers as `continuum_runtime.jitter`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuum_runtime import jitter


def delays(process: jitter.Process, key: int, at: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nanoseconds that packets wait, n of them for n times of arrival in ns, in any order."""
    if not process.slot:
        return np.full(len(at), process.centre)
    slots, rest = np.divmod(at, np.int64(process.slot))
    angle = np.pi / 2 * (rest / process.slot)
    known, place = np.unique(slots, return_inverse=True)
    now, after = _normal(key, known), _normal(key, known + 1)
    wave = np.cos(angle) * now[place] + np.sin(angle) * after[place]
    return np.maximum(0.0, process.centre + process.spread * wave)


def _normal(key: int, slots: NDArray[np.int64]) -> NDArray[np.float64]:
    numbers = slots.astype(np.uint64) * np.uint64(2)
    radius = ((_draw(key, numbers) >> np.uint64(11)) + np.uint64(1)) * 2.0**-53
    angle = (_draw(key, numbers + np.uint64(1)) >> np.uint64(11)) * 2.0**-53
    return np.asarray(np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle))


def _draw(key: int, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    word = np.uint64(key) + numbers * np.uint64(jitter.GOLDEN)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
