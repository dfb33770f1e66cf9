"""Presets of links: the figures of the original Continuum, each direction on its own.

Delay is one way, in ms; jitter is the standard deviation of a normal distribution, in ms; rate is
in Mbit/s. Presets speak of tiers named `cloud`, `edge` and `endpoint` only; other tiers have the
links that are written. Endpoints have no preset among themselves.

| from, to (and back) | delay | jitter | 4g | 5g | wired |
|---|---|---|---|---|---|
| cloud, cloud | 0 | 0 | 1000 | 1000 | 1000 |
| edge, edge | 7.5 | 2.5 | 1000 | 1000 | 1000 |
| cloud, edge | 7.5 | 2.5 | 1000 | 1000 | 1000 |
| cloud, endpoint | 45 | 5 | 7.21 | 29.66 | 1000 |
| edge, endpoint | 7.5 | 2.5 | 7.21 | 29.66 | 1000 |

`wired` is not of the original: distances stay, and endpoints get a cable.

Nor are the queues, since the original leaves them at what its kernel has (1000 packets: 1.7 s at
7.21 Mbit/s). Between servers they hold 20 ms, as a switch's does that is made for such distances. At an
endpoint they are those of radio links, which keep packets for hundreds of milliseconds rather than
drop them: Jiang, Wang, Lee and Rhee, "Tackling Bufferbloat in 3G/4G Networks" (IMC 2012), saw up to
seconds; Huang and others, "An In-depth Study of LTE" (SIGCOMM 2013), the same in a whole network.
We take a modest 300 ms in `4g` and 200 ms in `5g`, and 100 ms at the cable's end: the rule of thumb
of one round trip (Villamizar and Song, "High Performance TCP in ANSNET", 1994), here of 90 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from continuum.errors import UsageError


@dataclass(frozen=True)
class PresetLink:
    """One direction: delay, jitter and queue (at the rate) in ms, rate in Mbit/s, loss in percent."""

    delay_ms: float
    jitter_ms: float
    rate_mbit: float
    queue_ms: float
    loss_percent: float = 0.0


@dataclass(frozen=True)
class _Access:
    """The access of endpoints. `queue_ms` is at least the round trip of a distant cloud."""

    rate_mbit: float
    queue_ms: float


_BACKBONE_MBIT = 1000.0
_BACKBONE_QUEUE_MS = 20.0
_ACCESS = {
    "4g": _Access(7.21, 300.0),
    "5g": _Access(29.66, 200.0),
    "wired": _Access(_BACKBONE_MBIT, 100.0),
}


def _preset(access: _Access) -> dict[tuple[str, str], PresetLink]:
    rate, queue = access.rate_mbit, access.queue_ms
    pairs = {
        ("cloud", "cloud"): PresetLink(0.0, 0.0, _BACKBONE_MBIT, _BACKBONE_QUEUE_MS),
        ("edge", "edge"): PresetLink(7.5, 2.5, _BACKBONE_MBIT, _BACKBONE_QUEUE_MS),
        ("cloud", "edge"): PresetLink(7.5, 2.5, _BACKBONE_MBIT, _BACKBONE_QUEUE_MS),
        ("cloud", "endpoint"): PresetLink(45.0, 5.0, rate, queue),
        ("edge", "endpoint"): PresetLink(7.5, 2.5, rate, queue),
    }
    return pairs | {(there, here): link for (here, there), link in pairs.items()}


PRESETS: dict[str, dict[tuple[str, str], PresetLink]] = {
    name: _preset(access) for name, access in _ACCESS.items()
}
"""By name, then by (from tier, to tier); every pair stands in both directions."""


def presets(name: str) -> Mapping[tuple[str, str], PresetLink]:
    """The links of one preset.

    Raises:
        UsageError: there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f'no preset "{name[:40]}"', hint=f"there are: {', '.join(PRESETS)}")
    return PRESETS[name]
