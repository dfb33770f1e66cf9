"""Samples as an endpoint would write them, made up by a seed: plausible, and quick to make."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from continuum.infrastructure.plan import LinkSettings
from continuum_runtime import jitter

_START_NS = 1_750_000_000 * 10**9
_NO_LINK = LinkSettings()


@dataclass(frozen=True)
class Behaviour:
    """How a made-up endpoint, its worker and the network between them behave.

    Times in ms, sizes in bytes, shares 0 … 1. Deviations are normal, cut so that no time and no
    size is negative. The worker takes one request at a time, so that a slow one has a queue; so
    has a link with a rate.

    Attributes:
        forward, back: the links; loss in them loses requests.
        programs_ms: what programs, broker and kernel add to each transfer, give or take a third.
        late, failed: shares of requests that are answered too late, or with an error.
        seed_share: how much of it all depends on the seed: 0 makes every repetition alike.
    """

    forward: LinkSettings = _NO_LINK
    back: LinkSettings = _NO_LINK
    preparation_ms: float = 1.8
    preparation_deviation: float = 0.3
    processing_ms: float = 14.0
    processing_deviation: float = 1.5
    request_bytes: int = 68_000
    request_deviation: int = 9_000
    answer_bytes: int = 48
    programs_ms: float = 0.5
    late: float = 0.0
    failed: float = 0.0
    seed_share: float = 0.02


class Load(Protocol):
    """What is known of an endpoint's load in one repetition; the benchmark's own `Load` fits."""

    @property
    def seed(self) -> int:
        """Of this endpoint in this repetition."""

    @property
    def frequency(self) -> float:
        """Requests per second."""

    @property
    def warmup(self) -> float:
        """Seconds."""

    @property
    def duration(self) -> float:
        """Seconds after the warm-up."""

    @property
    def answer_timeout(self) -> float:
        """Seconds."""


@dataclass(frozen=True)
class MadeUpLoad:
    """A load by itself: see `Load`."""

    seed: int = 1
    frequency: float = 5.0
    warmup: float = 2.0
    duration: float = 10.0
    answer_timeout: float = 10.0


def synthetic_samples(
    load: Load,
    behaviour: Behaviour | None = None,
    *,
    start_ns: int = _START_NS,
    schedule: tuple[int, Sequence[int]] | None = None,
) -> list[dict[str, Any]]:
    """The samples of one endpoint in one repetition, in the fields of its sample lines.

    `schedule` is the number of the warm-up's requests, and when each request is due after
    `start_ns`; None for fixed intervals.
    """
    how = behaviour or Behaviour()
    rng = random.Random(load.seed)
    mood = 1 + how.seed_share * rng.uniform(-1, 1)
    first = round(load.warmup * load.frequency)
    count = first + max(1, round(load.duration * load.frequency))
    offsets_ns: Sequence[int] = [round(each * 1e9 / load.frequency) for each in range(count)]
    if schedule is not None:
        first, offsets_ns = schedule
    world = _World(how, mood, rng)
    samples = []
    for sequence, offset in enumerate(offsets_ns):
        intended = start_ns + offset
        sample = world.exchange(intended)
        if sample["status"] == "late":
            sample["status"] = "timeout"
            sample["answered_ns"] = intended + round(load.answer_timeout * 1.1e9)
        photo = rng.randrange(60)
        answered = sample["status"] in {"ok", "timeout"}
        samples.append(
            {
                "sequence": sequence,
                "warmup": sequence < first,
                "intended_ns": intended,
                **sample,
                "result": str(photo) if answered else None,
                "input": f"photo-{photo:02d}.jpg",
            }
        )
    return samples


def synthetic_sample_lines(
    load: Load,
    behaviour: Behaviour | None = None,
    *,
    start_ns: int = _START_NS,
    schedule: tuple[int, Sequence[int]] | None = None,
) -> bytes:
    """The same as the content of `samples.jsonl`: one JSON object a line, without nulls."""
    lines = (
        json.dumps({name: value for name, value in sample.items() if value is not None})
        for sample in synthetic_samples(load, behaviour, start_ns=start_ns, schedule=schedule)
    )
    return "".join(f"{line}\n" for line in lines).encode()


class _Sender:
    """A link that carries one message after another, and what programs add to each."""

    def __init__(self, link: LinkSettings, programs_ms: float, rng: random.Random) -> None:
        self._link = link
        self._programs_ms = programs_ms
        self._rng = rng
        self._jitter = jitter.process(link.delay_ms * 1e6, link.jitter_ms * 1e6)
        self._key = rng.getrandbits(64)
        self._free_at = 0

    def loses(self) -> bool:
        """Tell whether the next message is lost."""
        return self._rng.random() * 100 < self._link.loss_percent

    def arrival(self, sent: int, size: int) -> int:
        """The arrival time of a message, in ns: its frames at the link's rate, then the delay."""
        frames = -(-size // 1448)
        per_byte = 8e3 / self._link.rate_mbit if self._link.rate_mbit else 0.0
        left = max(sent, self._free_at) + round((size + 66 * frames) * per_byte)
        self._free_at = left
        programs = self._programs_ms * self._rng.uniform(0.6, 1.4)
        return left + round(jitter.delay(self._jitter, self._key, left) + programs * 1e6)


class _World:
    """An endpoint, its worker, and the links between them. Times in ns."""

    def __init__(self, how: Behaviour, mood: float, rng: random.Random) -> None:
        self._how = how
        self._mood = mood
        self._rng = rng
        self._forward = _Sender(how.forward, how.programs_ms, rng)
        self._back = _Sender(how.back, how.programs_ms, rng)
        self._free_at = 0

    def exchange(self, intended: int) -> dict[str, Any]:
        """One request and its answer."""
        how, rng = self._how, self._rng
        size = max(1, round(rng.gauss(how.request_bytes, how.request_deviation)))
        sample: dict[str, Any] = {"status": "lost", "request_bytes": size}
        begun = intended + _ns(0.05, 0.02, rng)
        prepared = begun + _ns(how.preparation_ms, how.preparation_deviation, rng)
        sent = prepared + _ns(0.03, 0.01, rng)
        sample |= {"prepare_started_ns": begun, "prepare_finished_ns": prepared, "sent_ns": sent}
        if self._forward.loses():
            return sample
        received = self._forward.arrival(sent, size)
        started = max(received + _ns(0.1, 0.03, rng), self._free_at)
        finished = started + _ns(how.processing_ms * self._mood, how.processing_deviation, rng)
        self._free_at = finished
        sample |= {"received_ns": received, "started_ns": started, "finished_ns": finished}
        if self._back.loses():
            return sample
        sample["answered_ns"] = self._back.arrival(finished, how.answer_bytes)
        sample["answer_bytes"] = how.answer_bytes
        draw = rng.random()
        if draw < how.failed:
            sample["status"] = "error"
        else:
            sample["status"] = "late" if draw < how.failed + how.late else "ok"
        return sample


def _ns(mean_ms: float, deviation_ms: float, rng: random.Random) -> int:
    return round(max(0.0, rng.gauss(mean_ms, deviation_ms)) * 1e6)
