"""What a run should show: the declared links simulated on the bytes that really cross them.

One message crosses a link as TCP segments of at most `SEGMENT` bytes, each in a frame that the
kernel counts with its Ethernet, IPv4 and TCP headers. The frames leave one after another at the
link's rate; each is then delayed by the delay and a normally distributed jitter, never less than
0, and none overtakes another. The message is there when its last frame is. The connection is
taken to be open and its window wide enough for the whole message, and the link to be idle.

Lost packets and their repetition are not simulated: over a lossy link nothing is expected.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from continuum.benchmark.results import Expectation, GroupKind
from continuum.benchmark.statistics import values
from continuum.infrastructure.plan import LinkSettings

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from continuum.benchmark.contract import Transport
    from continuum.infrastructure.plan import Link

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

SEGMENT = 1448
"""Bytes of a message in one frame: 1500 less 20 (IPv4), 20 (TCP) and 12 (TCP time stamps)."""
HEADERS = 66
"""Bytes that the kernel counts beside them: those 52, and 14 of Ethernet."""
TOLERANCE = 0.05
FLOOR_MS = 3.0
"""What broker, programs and kernel may add to a request without being called a difference."""

_MOST_DRAWS = 20_000_000
"""Jitters that are drawn for one call; beyond them only the last frames of a message count."""
_SIMULATED = 10_000
"""Transfers that are simulated at least, so that what is expected does not vary by chance too."""
_NO_LINK = LinkSettings()
_NO_SIZES = "the size of some messages is not known"
_NO_TIMES = "some samples lack sent_ns, received_ns or finished_ns"


@dataclass(frozen=True)
class Way:
    """The links that an endpoint's requests cross, and that their answers do.

    Links are without delay and limit where nothing is emulated, or nothing is crossed.
    """

    forward: tuple[LinkSettings, ...] = ()
    back: tuple[LinkSettings, ...] = ()

    @property
    def loses(self) -> bool:
        """Whether a link loses packets."""
        return any(link.loss_percent > 0 for link in (*self.forward, *self.back))


def way_over(links: Sequence[Link], *addresses: str) -> Way:
    """The way from the first address, the endpoint's, over all others to the last, the worker's.

    `links` come most specific first, as in the plan.
    """
    pairs = list(itertools.pairwise(addresses))
    return Way(
        tuple(_link(links, start, end) for start, end in pairs),
        tuple(_link(links, end, start) for start, end in reversed(pairs)),
    )


def _link(links: Sequence[Link], source: str, destination: str) -> LinkSettings:
    start, end = ipaddress.IPv4Address(source), ipaddress.IPv4Address(destination)
    if start == end:
        return _NO_LINK
    for link in links:
        if any(start in each for each in link.source_blocks) and any(
            end in each for each in link.destination_blocks
        ):
            return link.settings
    return _NO_LINK


def simulate_way(
    message_bytes: NDArray[np.int64],
    links: Sequence[LinkSettings],
    protocol_bytes: int,
    rng: np.random.Generator,
) -> Floats:
    """Times in ms that messages take over links one after another, as `simulate_transfer`.

    What stands between two links passes on what comes as it comes: so the slowest link alone
    decides how long the whole message takes, and the others add what its last frame takes.
    """
    times = np.zeros(len(message_bytes))
    slowest = min(links, key=lambda link: link.rate_mbit or math.inf, default=None)
    for link in links:
        whole = message_bytes + protocol_bytes
        crossing = whole if link is slowest else np.minimum(whole, SEGMENT)
        times += simulate_transfer(crossing, link, 0, rng)
        # Equal links may be one object: only one of them counts as the slowest.
        slowest = None if link is slowest else slowest
    return times


def simulate_transfer(
    message_bytes: NDArray[np.int64],
    link: LinkSettings,
    protocol_bytes: int,
    rng: np.random.Generator,
) -> Floats:
    """Times in ms that messages take over a link, one for each; loss is passed over.

    Args:
        message_bytes: payload of each message, (n,).
        link: what it crosses.
        protocol_bytes: what the application's protocol adds to each message.
        rng: consumed.
    """
    whole = np.maximum(message_bytes + protocol_bytes, 1)
    frames = -(-whole // SEGMENT)
    per_byte = 0.0 if link.rate_mbit is None else 8 / (link.rate_mbit * 1e3)
    serialised: Floats = (whole + frames * HEADERS) * per_byte
    if link.jitter_ms == 0:
        return serialised + link.delay_ms
    # The last frame is there when every frame is, so only the latest counts; the far earlier ones
    # cannot be it, whatever their jitter.
    looked_at = int(min(frames.max(initial=1), 1 + _MOST_DRAWS // max(1, len(whole))))
    if per_byte > 0:
        frame = (SEGMENT + HEADERS) * per_byte
        looked_at = min(looked_at, 2 + int(12 * link.jitter_ms / frame))
    latest = np.zeros(len(whole))
    for before_last in range(looked_at):
        there = frames > before_last
        # The last frame is the short one; the others are full.
        left = serialised - _from_the_end(whole, before_last, per_byte)
        delay = np.maximum(0.0, link.delay_ms + link.jitter_ms * rng.standard_normal(len(whole)))
        latest = np.where(there, np.maximum(latest, left + delay), latest)
    return latest


def _from_the_end(whole: NDArray[np.int64], before_last: int, per_byte: float) -> Floats | float:
    """How long before the last frame the one `before_last` frames earlier has left, in ms."""
    if before_last == 0:
        return 0.0
    last = (whole - 1) % SEGMENT + 1 + HEADERS
    left: Floats = (last + (before_last - 1.0) * (SEGMENT + HEADERS)).astype(np.float64) * per_byte
    return left


def expect(
    samples: pa.Table,
    ways: Mapping[str, Way],
    transport: Transport | None,
    *,
    seed: int = 1,
) -> tuple[Expectation, ...]:
    """Forward delay, return and end-to-end latency: expected, beside measured.

    Of the end-to-end latency only the two transfers are simulated: everything else (what the
    endpoint took, the worker's queue and its processing) is taken as measured, sample by sample.
    Where samples do not tell their transfers from the rest, of their latency nothing is expected.
    Where samples are few, the transfers of each are simulated several times.

    Args:
        samples: of the whole run.
        ways: by endpoint.
        transport: how messages cross; None when the application cannot say.
        seed: the same seed and samples give the same expectation.

    Returns:
        For all samples, then for each endpoint; over the `ok` ones after the warm-up. A quantity
        that no sample has is left out.
    """
    measured = _Measured.of(samples)
    rng = np.random.default_rng(seed)
    names = sorted({str(name) for name in measured.endpoint})
    expected = _Expected.unknown(len(measured.endpoint))
    why_not: dict[str, str] = {}
    for name in names:
        why_not[name] = _why_not(ways.get(name), transport)
        if not why_not[name] and transport is not None:
            here = measured.endpoint == name
            expected.simulate(here, measured, ways[name], transport, rng)
    everywhere = np.ones(len(measured.endpoint), dtype=bool)
    reason = next((each for each in why_not.values() if each), "")
    rows = _rows(("all", "all"), measured, expected, everywhere, reason)
    for name in names:
        here = measured.endpoint == name
        rows += _rows(("endpoint", name), measured, expected, here, why_not[name])
    return tuple(rows)


def _why_not(way: Way | None, transport: Transport | None) -> str:
    if way is None:
        return "the endpoint's links are not known"
    if transport is None:
        return "the application does not say what crosses the network"
    if way.loses:
        return "repeated packets of a lossy link are not simulated"
    return ""


@dataclass(frozen=True)
class _Measured:
    """The `ok` samples after the warm-up: times in ms, sizes in bytes, not-a-number for null.

    `itself` are those that their endpoint answered, without a worker beside it.
    """

    endpoint: NDArray[Any]
    itself: Mask
    request: Floats
    answer: Floats
    forward: Floats
    back: Floats
    latency: Floats

    @classmethod
    def of(cls, samples: pa.Table) -> _Measured:
        counted = (samples["status"].to_numpy() == "ok") & ~samples["warmup"].to_numpy()
        endpoint = samples["endpoint"].to_numpy()[counted]
        worker = samples["worker"].to_numpy()[counted]
        return cls(
            endpoint=endpoint,
            itself=np.array(
                [one is None or one == other for one, other in zip(worker, endpoint, strict=True)],
                dtype=bool,
            ),
            request=_sizes(samples, "request_bytes")[counted],
            answer=_sizes(samples, "answer_bytes")[counted],
            forward=values(samples, "forward_ms")[counted],
            back=values(samples, "return_ms")[counted],
            latency=values(samples, "latency_ms")[counted],
        )

    @property
    def whole(self) -> Mask:
        """Samples whose transfers are all told apart from the rest of their latency."""
        return self.itself | ~(np.isnan(self.forward) | np.isnan(self.back))


def _sizes(samples: pa.Table, column: str) -> Floats:
    found: Floats = samples[column].cast("float64").to_numpy()
    return found


@dataclass(frozen=True)
class _Expected:
    """Simulated transfers in ms beside `_Measured`; not-a-number where nothing can be said.

    Both are of shape (simulations, samples).
    """

    forward: Floats
    back: Floats

    @classmethod
    def unknown(cls, size: int) -> _Expected:
        shape = (-(-_SIMULATED // max(1, size)), size)
        return cls(np.full(shape, np.nan), np.full(shape, np.nan))

    def simulate(
        self,
        here: Mask,
        measured: _Measured,
        way: Way,
        transport: Transport,
        rng: np.random.Generator,
    ) -> None:
        request_head = transport.protocol_bytes
        answer_head = transport.answer_protocol_bytes
        for times, sizes, links, head in (
            (self.forward, measured.request, way.forward, request_head),
            (
                self.back,
                measured.answer,
                way.back,
                request_head if answer_head is None else answer_head,
            ),
        ):
            known = here & ~np.isnan(sizes)
            message_bytes = np.tile(sizes[known].astype(np.int64), len(times))
            simulated = simulate_way(message_bytes, links, head, rng)
            times[:, known] = simulated.reshape(len(times), -1)


def _rows(
    group: tuple[GroupKind, str],
    measured: _Measured,
    expected: _Expected,
    here: Mask,
    why_not: str,
) -> list[Expectation]:
    pairs = (
        ("forward_ms", measured.forward, expected.forward),
        ("return_ms", measured.back, expected.back),
        (
            "latency_ms",
            measured.latency,
            measured.latency
            + _exchange(measured.forward, expected.forward, measured.itself)
            + _exchange(measured.back, expected.back, measured.itself),
        ),
    )
    rows = []
    for quantity, found, simulated in pairs:
        known = here & ~np.isnan(found)
        if known.any():
            missing = _NO_SIZES if measured.whole[known].all() else _NO_TIMES
            reason = why_not or missing
            rows.append(_row(group, quantity, found[known], simulated[:, known], reason))
    return rows


def _exchange(measured: Floats, expected: Floats, itself: Mask) -> Floats:
    """What a latency gains when its measured transfer gives way to the expected one.

    A request that an endpoint answers itself has no transfer: nothing is exchanged. Elsewhere a
    transfer that was not measured leaves open what to exchange, and so the whole latency.
    """
    return np.where(itself & np.isnan(measured), 0.0, expected - measured)


def _row(
    group: tuple[GroupKind, str], quantity: str, found: Floats, simulated: Floats, why_not: str
) -> Expectation:
    kind, name = group
    row = Expectation(
        kind=kind,
        name=name,
        quantity=quantity,
        n=found.size,
        measured_mean=round(float(found.mean()), 4),
        measured_p50=round(float(np.median(found)), 4),
    )
    if np.isnan(simulated).any():
        return row.model_copy(update={"why_not": why_not})
    mean = round(float(simulated.mean()), 4)
    tolerance = round(max(TOLERANCE * mean, FLOOR_MS), 4)
    return row.model_copy(
        update={
            "expected_mean": mean,
            "expected_p50": round(float(np.median(simulated)), 4),
            "tolerance_ms": tolerance,
            "within": abs(row.measured_mean - mean) <= tolerance,
        }
    )
