"""Results folders made up by a seed, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from continuum.benchmark import samples
from continuum.benchmark.contract import Transport
from continuum.benchmark.expectation import Network, expect
from continuum.benchmark.results import (
    LINKS_FILE,
    SAMPLES_FILE,
    Baseline,
    EndpointRecord,
    LinkRecord,
    MachineRecord,
    Run,
    WorkerRecord,
    write_run,
)
from continuum.benchmark.statistics import aggregate
from continuum.benchmark.transfer import Hop, Way
from continuum.infrastructure.plan import LinkSettings
from continuum.testing.synthetic import Behaviour, MadeUpLoad, synthetic_samples

OWN = pa.schema(
    [
        pa.field("input", pa.string()),
        pa.field("expected", pa.string()),
        pa.field("agrees", pa.bool_()),
    ]
)
EDGE_4G = LinkSettings(7.5, 2.5, 0, 7.21)
CLOUD_4G = LinkSettings(45, 5, 0, 7.21)
_LOAD = MadeUpLoad()
_BASELINE = tuple(
    Baseline(quantity=quantity, n=60, mean=0.5, deviation=0.12)
    for quantity in ("forward_ms", "return_ms")
)
_OVER_4G = Behaviour(forward=EDGE_4G, back=EDGE_4G)


@dataclass(frozen=True)
class Measurement:
    """One measured quantity of one link."""

    from_tier: str
    to_tier: str
    from_machine: str
    to_machine: str
    quantity: str
    asked: float
    measured: float | None
    tolerance: float
    ok: bool = True


@dataclass(frozen=True)
class MadeUp:
    """What a made-up run is like.

    Attributes:
        tiers: machines of each tier, in this order.
        endpoints: how many of the endpoint tier's machines carry an endpoint; 0 for no benchmark.
        links: between tiers; measured when `measured`.
        load: its seed is changed for each endpoint and repetition.
    """

    tiers: dict[str, int] = field(default_factory=lambda: {"cloud": 1, "edge": 1, "endpoint": 2})
    endpoints: int = 2
    repetitions: int = 1
    links: Sequence[tuple[str, str, LinkSettings]] = (
        ("cloud", "edge", CLOUD_4G),
        ("edge", "cloud", CLOUD_4G),
        ("cloud", "endpoint", CLOUD_4G),
        ("endpoint", "cloud", CLOUD_4G),
        ("edge", "endpoint", EDGE_4G),
        ("endpoint", "edge", EDGE_4G),
    )
    measured: bool = True
    load: MadeUpLoad = _LOAD
    behaviour: Behaviour = _OVER_4G
    changes: dict[str, Any] = field(default_factory=dict)

    def table(self) -> pa.Table:
        """The samples."""
        return samples.table(
            (
                {
                    **each,
                    "run": "made-up-1",
                    "repetition": repetition,
                    "endpoint": f"endpoint-{endpoint}",
                    "worker": "worker-1",
                    "expected": each["result"],
                    "agrees": None if each["result"] is None else True,
                }
                for repetition in range(1, self.repetitions + 1)
                for endpoint in range(1, self.endpoints + 1)
                for each in synthetic_samples(
                    replace(self.load, seed=1000 * repetition + endpoint), self.behaviour
                )
            ),
            OWN,
        )

    def measurements(self) -> list[Measurement]:
        """The links, each a little off."""
        found = []
        for source, destination, link in self.links:
            ends = (source, destination, f"{source}-1", f"{destination}-1")
            for quantity, asked, tolerance in (
                ("delay_ms", link.delay_ms, 1.0),
                ("jitter_ms", link.jitter_ms, 1.0),
                ("rate_mbit", link.rate_mbit, 0.36),
            ):
                if asked is not None:
                    measured = asked + 0.25 * tolerance
                    found.append(Measurement(*ends, quantity, asked, measured, tolerance))
        return found

    def run(self, table: pa.Table | None) -> Run:
        """What `run.json` holds."""
        forward, back = self.behaviour.forward, self.behaviour.back
        ways = {
            name: Way((Hop(forward, name),), (Hop(back, f"worker of {name}"),))
            for name in (f"endpoint-{number}" for number in range(1, self.endpoints + 1))
        }
        fields: dict[str, Any] = {
            "run": "made-up-1",
            "deployment": "made-up",
            "status": "done",
            "started": "2026-01-31T12:30:05+01:00",
            "finished": "2026-01-31T12:30:33+01:00",
            "versions": {"continuum": "2.0.0", "python": "3.11.2"},
            "host": {"cpu_model": "A Processor", "cores": 2, "memory_bytes": 2**34},
            "hashes": {"experiment": "9f1c2d3e4b5a6978"},
            "seeds": {"benchmark": 1},
            "provider": "lxc",
            "emulator": "nfqueue" if self.links else "",
            "quota_covers": "machine",
            "machines": [
                MachineRecord(
                    name=f"{tier}-{number}",
                    tier=tier,
                    address=f"10.88.{place}.{number}",
                    cores=2,
                    quota=0.5,
                    memory=2**30,
                    ssh=f"ssh -F ssh_config {tier}-{number}",
                )
                for place, (tier, count) in enumerate(self.tiers.items())
                for number in range(1, count + 1)
            ],
            "links": [
                LinkRecord(
                    source=source,
                    destination=destination,
                    delay_ms=link.delay_ms,
                    jitter_ms=link.jitter_ms,
                    loss_percent=link.loss_percent,
                    rate_mbit=link.rate_mbit,
                )
                for source, destination, link in self.links
            ],
            "experiment": {
                "name": "made-up",
                "tiers": {tier: {"machines": count} for tier, count in self.tiers.items()},
            },
            "experiment_text": 'name = "made-up"\n',
            "experiment_file": "made-up.toml",
            "remove": "continuum down made-up",
        }
        if table is not None:
            fields |= {
                "workers": [WorkerRecord(name="worker-1", machine="edge-1", cpu=1.5)],
                "endpoints": [
                    EndpointRecord(name=name, machine=name, worker="worker-1") for name in ways
                ],
                "table": aggregate(table, answer_timeout=self.load.answer_timeout),
                "baseline": _BASELINE,
                "expectation": expect(
                    table,
                    Network(ways, Transport(30)),
                    # Each made-up endpoint is alone at its worker.
                    servers={"worker-1": self.endpoints},
                    baselines=_BASELINE,
                ),
            }
            fields["experiment"]["benchmark"] = {"repetitions": self.repetitions}
        return Run.model_validate({**fields, **self.changes})

    def write(self, folder: Path) -> Run:
        """Make the whole folder, but for the report."""
        table = self.table() if self.endpoints else None
        if table is not None:
            samples.write_samples(folder / SAMPLES_FILE, table, {"run": "made-up-1"})
        if self.measured and self.links:
            samples.write_links(folder / LINKS_FILE, self.measurements())
        run = self.run(table)
        write_run(folder, run)
        return run
