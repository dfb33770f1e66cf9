"""The permissible deviation of a link from what was asked, and the probing it takes to show it.

Both are decided before anything is measured. The tolerance of a quantity is the smallest deviation
that must be found; probes are as many as let the interval of a true link lie wholly inside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from continuum.infrastructure.links.intervals import normal_quantile
from continuum.infrastructure.links.measurement import DELAY, JITTER, LOSS, RATE, STREAM
from continuum.infrastructure.plan import LinkSettings

MOST_ATTEMPTS = 4

ERRORS = (0.016, 0.001, 0.001, 0.001)
"""By attempt: probability that a link which is off by just the tolerance holds.

By Bonferroni's inequality that is 1.9 % over all attempts, however they depend on one another, and
whichever earlier ones count with a later.
"""

MISSED = 0.005
"""Probability at either end that the first attempt does not show a true link to hold."""

MISSED_JITTER = 0.02
"""The same of jitter, of which only the upper end is near."""

MEAN_MEMORY = 32 / math.pi
"""Time, in jitters, in which the emulator's jitter tells its mean as well as one independent draw.

Jitter between two slots of T = 2π jitters is cos(θ) z(k) + sin(θ) z(k + 1), see
`continuum_runtime.jitter`. Its mean over a long time has the variance of one draw in
T ∫∫ cov = T (8/π² + 8/π²) = 16 T / π².
"""

SQUARE_MEMORY = 2 * math.pi * (1 + 2 / math.pi**2)
"""The same for its square, of which the covariance is 2 cov²: T (1/2 + 2/π² + 1/2)."""

NOISE = 0.3
"""Standard deviation in ms of what a host adds to a packet's delay; jitter of it is independent."""

SHORTEST = 1.4
"""Seconds for which delays are probed at the least."""

LONGEST = 300.0
"""Seconds of one attempt at the most, whatever the jitter; the rest is left to later attempts."""

LEAST_RATE_LOSS = 0.007
"""Share by which chance may move a rate because packets of the train are lost."""


@dataclass(frozen=True)
class Tolerances:
    """The smallest deviations that must be found. Shares of what was asked, in percent.

    Attributes:
        delay, jitter, rate: either way.
        loss: 50 stands for half of what was asked, and for twice; 20 for four fifths and five
            fourths.
        time: ms; of delay and jitter no smaller deviation is looked for.
        lost: percent of all packets: where less was asked for, losing so much more is looked for.
    """

    delay: float = 10.0
    jitter: float = 20.0
    loss: float = 50.0
    rate: float = 5.0
    time: float = 0.3
    lost: float = 0.1

    def bounds(self, quantity: str, asked: float) -> tuple[float, float]:
        """Least and most that a quantity may be; infinite where it cannot be beyond."""
        if quantity in (DELAY, STREAM):
            apart = max(asked * self.delay / 100, self.time)
        elif quantity == JITTER:
            apart = max(asked * self.jitter / 100, self.time)
        elif quantity == RATE:
            apart = asked * self.rate / 100
        else:
            return self._of_loss(asked)
        return asked - apart, asked + apart

    def _of_loss(self, asked: float) -> tuple[float, float]:
        if asked < self.lost:
            return -math.inf, asked + self.lost
        if asked >= 100:
            return 100 - self.lost, math.inf
        # Where most are lost it is what arrives that may be half or twice as much.
        kept = 1 - self.loss / 100
        return (
            max(asked * kept, 100 - (100 - asked) / kept),
            min(asked / kept, 100 - (100 - asked) * kept),
        )


DEFAULT = Tolerances()


def _reach(missed: float = MISSED) -> float:
    """Standard errors between what was asked and the tolerance, for both errors; t in place of z."""
    return 1.04 * normal_quantile(1 - ERRORS[0]) + normal_quantile(1 - missed)


def probing_seconds(
    settings: LinkSettings, back: LinkSettings | None, interval: float, tolerances: Tolerances
) -> float:
    """For how long delays must be probed, every `interval` seconds, to be shown.

    `back`: settings of the way back where only round trips can be measured, else None.
    """
    jitter = settings.jitter_ms
    spread = math.hypot(jitter, NOISE)
    memory = jitter
    if back is not None:
        spread, memory = math.hypot(spread, back.jitter_ms) / 2, max(jitter, back.jitter_ms)
    _, most = tolerances.bounds(DELAY, settings.delay_ms)
    means = (_reach() * spread / (most - settings.delay_ms)) ** 2
    _, most = tolerances.bounds(JITTER, jitter)
    # Inverses are compared; one of n independent draws has a relative error of 1 / √(2 n).
    squares = (_reach(MISSED_JITTER) / (1 - math.hypot(jitter, NOISE / 3) / most)) ** 2 / 2
    return min(
        LONGEST,
        max(
            SHORTEST,
            means * max(interval, MEAN_MEMORY * memory / 1e3),
            squares * max(interval, SQUARE_MEMORY * jitter / 1e3),
        ),
    )


def loss_probes(settings: LinkSettings, tolerances: Tolerances) -> int:
    """Packets that must be counted for the loss to be shown, and for the rate if some are lost.

    Counts are compared by their square roots, and shares by the arc sine of theirs, which have the
    same deviation whatever the share: 1 / (2 √n) (Freeman & Tukey 1950,
    doi:10.1214/aoms/1177729756).
    """
    asked = settings.loss_percent
    least, most = tolerances.bounds(LOSS, asked)
    if asked == 0 or asked >= 100:
        # One of so many may be lost (or arrive), which a busy host does now and then.
        return math.ceil(-1.5 * math.log(ERRORS[0]) / (tolerances.lost / 100))
    apart = min(
        abs(_angle(asked) - _angle(bound)) for bound in (least, most) if math.isfinite(bound)
    )
    found = (_reach() / (2 * apart)) ** 2 * 1.1
    if settings.rate_mbit is not None:
        found = max(found, train_frames(settings))
    return math.ceil(found)


def train_frames(settings: LinkSettings) -> int:
    """Frames of a train from which its rate can be told although some are lost."""
    lost = settings.loss_percent / 100
    return math.ceil(lost / max(1 - lost, 1e-3) / LEAST_RATE_LOSS**2)


def _angle(percent: float) -> float:
    return math.asin(math.sqrt(max(0.0, min(1.0, percent / 100))))
