"""The links during the run: what the emulator did to packets, and whether it was on time.

The emulator counts by windows of 100 ms. A window is late when the median of its packets was let go
later than a link may be off: 10 % of the delay, but at least 0.3 ms, as the link check has it. One
late window in twenty is the most that a link may have, of those in which the host did not stall;
beyond that 1.645 standard errors of a binomial share are chance. And no packet may be so late that
no pause of a host explains it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from continuum.benchmark.reasons import Code, Reason
from continuum.benchmark.samples import LINK_SERIES_SCHEMA
from continuum.infrastructure.links.evidence import Stalls, overlap
from continuum_runtime.link_series import WINDOW_NS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from continuum.infrastructure.links.contract import Window

SHARE = 0.10
"""Of the delay, by which a packet may be late."""
LEAST_MS = 0.3
"""By how much it may be late whatever the delay."""
LATE_WINDOWS = 0.05
"""Share of the windows that may be late."""
PAUSE_MS = 100.0
"""A host takes its processor away for tens of milliseconds; a packet that is later has another cause."""
ONE_SIDED = 1.645
"""Standard errors that chance exceeds once in twenty."""
MOST_NAMED = 3

_OF_WINDOWS = tuple(name for name in LINK_SERIES_SCHEMA.names if name != "repetition")


@dataclass(frozen=True)
class Total:
    """One link over all repetitions.

    Attributes:
        source, destination: as the plan names its ends.
        packets, bytes, lost, overflow: sums.
        delay_ms: mean that packets were to wait.
        late_p50_ms, late_p99_ms: medians over the windows of what each window tells.
        late_max_ms: of all packets.
        windows, late_windows: with traffic and no stall of the host, and those of them that were
            late.
    """

    source: str
    destination: str
    packets: int
    bytes: int
    lost: int
    overflow: int
    delay_ms: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    windows: int
    late_windows: int

    @property
    def late_share(self) -> float:
        """Share of the windows that were late, 0 … 1."""
        return self.late_windows / self.windows if self.windows else 0.0

    @property
    def late(self) -> bool:
        """Judge if more windows were late than may be, chance left out."""
        chance = math.sqrt(LATE_WINDOWS * (1 - LATE_WINDOWS) * self.windows)
        return self.late_windows > LATE_WINDOWS * self.windows + ONE_SIDED * chance

    @property
    def name(self) -> str:
        """As `edge → endpoint`."""
        return f"{self.source} → {self.destination}"


def totals(series: pa.Table, stalls: Stalls = ()) -> list[Total]:
    """One for each link with traffic, in the order of their names."""
    columns = {name: series[name].to_numpy() for name in series.schema.names}
    ends = sorted(set(zip(columns["source"], columns["destination"], strict=True)))
    start = columns["start_ns"]
    stalled = overlap(start, start + WINDOW_NS, stalls)
    return [_total(source, destination, columns, stalled) for source, destination in ends]


def _total(
    source: str,
    destination: str,
    columns: Mapping[str, NDArray[Any]],
    stalled: NDArray[np.bool_],
) -> Total:
    here = (columns["source"] == source) & (columns["destination"] == destination)
    of = {name: column[here] for name, column in columns.items()}
    packets = int(of["packets"].sum())
    delay = float((of["delay_ms"] * of["packets"]).sum() / packets) if packets else 0.0
    allowed = max(LEAST_MS, SHARE * delay)
    calm = ~stalled[here]
    return Total(
        source=source,
        destination=destination,
        packets=packets,
        bytes=int(of["bytes"].sum()),
        lost=int(of["lost"].sum()),
        overflow=int(of["overflow"].sum()),
        delay_ms=delay,
        late_p50_ms=float(np.median(of["late_p50_ms"])),
        late_p99_ms=float(np.median(of["late_p99_ms"])),
        late_max_ms=float(of["late_max_ms"].max()),
        windows=int(np.count_nonzero(calm)),
        late_windows=int(np.count_nonzero((of["late_p50_ms"] > allowed) & calm)),
    )


def reasons(links: Sequence[Total], longest_stall_ms: float = 0.0) -> list[Reason]:
    """Reasons for which the links were not as declared during the run; empty when they were.

    `longest_stall_ms` is for how long the host was seen not to run at most: packets that are that
    late are the host's, which has a reason of its own.
    """
    found = []
    late = [link for link in links if link.late]
    if late:
        worst = max(late, key=lambda link: link.late_share)
        found.append(
            Reason(
                code=Code.EMULATOR,
                sentence=f"the emulator was late on {_named(late)}: in "
                f"{100 * worst.late_share:.0f} % of the time by more than "
                f"{max(LEAST_MS, SHARE * worst.delay_ms):.2g} ms",
                figures={"links": len(late), "late_percent": round(100 * worst.late_share, 2)},
            )
        )
    paused = [link for link in links if link.late_max_ms > max(PAUSE_MS, 1.5 * longest_stall_ms)]
    if paused:
        most = max(link.late_max_ms for link in paused)
        found.append(
            Reason(
                code=Code.EMULATOR,
                sentence=f"the emulator let packets of {_named(paused)} go up to {most:.0f} ms late",
                figures={"links": len(paused), "late_max_ms": round(most, 1)},
            )
        )
    full = [link for link in links if link.overflow]
    if full:
        dropped = sum(link.overflow for link in full)
        found.append(
            Reason(
                code=Code.EMULATOR,
                sentence=f"the emulator could not hold {dropped} packets of {_named(full)}",
                figures={"links": len(full), "packets": dropped},
            )
        )
    return found


def _named(links: Sequence[Total]) -> str:
    return first_few([link.name for link in links], MOST_NAMED)


def first_few(names: Sequence[str], most: int) -> str:
    """Names for a sentence: at most so many, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def rows(windows: Iterable[Window], repetition: int) -> list[dict[str, Any]]:
    """Rows of `link_series.parquet`."""
    return [
        {"repetition": repetition, **{name: getattr(each, name) for name in _OF_WINDOWS}}
        for each in windows
    ]
