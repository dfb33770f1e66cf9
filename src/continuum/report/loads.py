"""The arrivals of requests, and their demand as a share of what workers can do: in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from continuum.experiment.arrivals import WORDS
from continuum.report import format as show

if TYPE_CHECKING:
    from continuum.benchmark.results import LoadRecord, Run


def sentence(run: Run) -> str:
    """One line beside the latency; empty for a run of which neither is known."""
    parts = [f"Arrivals: {arrivals(run)}"] if arrivals(run) else []
    if run.loads:
        parts.append(f"load of the workers: {_explained(run.loads[0], several=len(run.loads) > 2)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def arrivals(run: Run) -> str:
    """Arrivals in words; empty for an earlier version's run, whose endpoints were spread evenly."""
    benchmark = run.experiment.get("benchmark")
    kind = benchmark.get("arrivals") if isinstance(benchmark, dict) else None
    if isinstance(kind, dict):
        return f"{WORDS['file']} ({kind.get('file', '')})"
    return WORDS.get(kind, "") if isinstance(kind, str) and run.loads else ""


def of(run: Run, name: str) -> str:
    """The load of one worker as text."""
    found = next((each for each in run.loads[1:] if each.name == name), None)
    return show.number(found.load) if found else show.NOTHING


def _explained(load: LoadRecord, *, several: bool) -> str:
    """The figure, and what it is made of."""
    value = "not known" if load.load is None else show.number(load.load)
    parts = [f"{show.number(load.arrivals)} requests/s"]
    if load.service_ms is not None:
        parts.append(f"{show.number(load.service_ms)} ms")
    made = " × ".join(parts)
    if load.servers is not None:
        made += f" / {load.servers} at a time" + (" in all" if several else "")
    return f"{value} ({made})"
