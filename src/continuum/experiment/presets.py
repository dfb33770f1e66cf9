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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from continuum.errors import UsageError


@dataclass(frozen=True)
class PresetLink:
    """One direction: delay and jitter in ms, loss in percent, rate in Mbit/s."""

    delay_ms: float
    jitter_ms: float
    rate_mbit: float
    loss_percent: float = 0.0


_BACKBONE_MBIT = 1000.0
_ENDPOINT_MBIT = {"4g": 7.21, "5g": 29.66, "wired": _BACKBONE_MBIT}


def _preset(endpoint_mbit: float) -> dict[tuple[str, str], PresetLink]:
    pairs = {
        ("cloud", "cloud"): PresetLink(0.0, 0.0, _BACKBONE_MBIT),
        ("edge", "edge"): PresetLink(7.5, 2.5, _BACKBONE_MBIT),
        ("cloud", "edge"): PresetLink(7.5, 2.5, _BACKBONE_MBIT),
        ("cloud", "endpoint"): PresetLink(45.0, 5.0, endpoint_mbit),
        ("edge", "endpoint"): PresetLink(7.5, 2.5, endpoint_mbit),
    }
    return pairs | {(there, here): link for (here, there), link in pairs.items()}


PRESETS: dict[str, dict[tuple[str, str], PresetLink]] = {
    name: _preset(rate) for name, rate in _ENDPOINT_MBIT.items()
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
