"""What the emulator counts: its files, and the rows that are made of them."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.deployment import Deployment
from continuum.infrastructure.links import places, process, series
from continuum.infrastructure.links.contract import Interface
from continuum.infrastructure.plan import InfrastructurePlan, LinkSettings
from continuum.machine import Command
from continuum.testing.link_lab import NamespaceMachine, make_plan
from continuum_runtime import link_series
from continuum_runtime.link_series import Lateness, Record, Writer

SECOND = 10**9
START = 1_800_000_000 * SECOND
LINK = LinkSettings(10, 0, 1)
PLAN = make_plan(
    {"edge": 1, "endpoint": 1}, {("edge", "endpoint"): LINK, ("endpoint", "edge"): LINK}
)


def record(start: int = START, machine: str = "edge-1", queue: int = 1001) -> Record:
    return Record(machine, queue, start, 100, 151_400, 2, 1, 30, 10_250.5, 40.25, 80.5, 1000.0)


def write(
    folder: Path, *records: Record, names: tuple[str, ...] = ("edge-1", "endpoint-1")
) -> None:
    writer = Writer(folder, names)
    writer.write(b"".join(link_series.pack(each, names.index(each.machine)) for each in records))


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    known = [record(), record(START + SECOND, "endpoint-1", 1000)]
    write(tmp_path / "series", *known)
    assert list(link_series.read(tmp_path / "series")) == known
    assert list(link_series.read(tmp_path / "nothing")) == []


def test_a_stretch_of_time_has_the_windows_that_touch_it(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write(folder, *(record(START + place * SECOND // 10) for place in range(20)))
    found = list(link_series.read(folder, START + SECOND // 4, START + SECOND // 2))
    assert [(each.start_ns - START) * 10 // SECOND for each in found] == [2, 3, 4]


def test_a_record_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    write(folder, record(), record(START + SECOND))
    (part,) = folder.iterdir()
    part.write_bytes(part.read_bytes()[:-1])
    assert len(list(link_series.read(folder))) == 1


def test_the_oldest_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_series, "PART_BYTES", 1000)
    monkeypatch.setattr(link_series, "SERIES_BYTES", 5000)
    folder = tmp_path / "series"
    writer = Writer(folder, ["edge-1"])
    for place in range(500):
        writer.write(link_series.pack(record(START + place), 0))
    assert sum(part.stat().st_size for part in folder.iterdir()) <= 5200
    found = [each.start_ns - START for each in link_series.read(folder)]
    assert found == list(range(found[0], 500))
    assert len(found) > 60


@given(st.lists(st.integers(0, 2**36), min_size=1, max_size=300))
def test_lateness_is_told_to_an_eighth_and_never_too_small(known: list[int]) -> None:
    lateness = Lateness()
    for each in known:
        lateness.add(each)
    for percent in (50, 99):
        rank = (len(known) * percent + 99) // 100
        true = sorted(known)[rank - 1] / 1000
        assert true <= lateness.quantile(percent) <= true * 1.13 + 0.01
    assert lateness.largest == max(known) / 1000
    assert Lateness().quantile(99) == 0


def test_the_program_prints_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "series", record())
    assert link_series.main([str(tmp_path / "series"), str(START), str(START + 1)]) == 0
    assert Record(*json.loads(capsys.readouterr().out)) == record()
    assert link_series.main([]) == 2


def interfaces(plan: InfrastructurePlan) -> list[Interface]:
    return [Interface(each, "/proc/self/ns/net") for each in plan.machines]


def test_rows_name_their_links(tmp_path: Path) -> None:
    deployment = Deployment("lab", tmp_path)
    deployment.folder.mkdir(parents=True)
    (deployment.folder / "links").mkdir()
    other = record(queue=1099)
    write(
        deployment.folder / process.SERIES,
        record(),
        record(machine="endpoint-1", queue=1000),
        other,
    )
    rows = series.read(deployment, PLAN, interfaces(PLAN), START, START + 1)
    assert [(row.link, row.source, row.destination, row.machine) for row in rows] == [
        (0, "edge", "endpoint", "endpoint-1"),
        (1, "endpoint", "edge", "edge-1"),
    ]
    assert rows[1].lost == 2
    assert statistics.mean(row.late_max_ms for row in rows) == 1


class OnThisHost(NamespaceMachine):
    """A machine that is this host itself."""

    def _inside(self, command: Command) -> Command:
        return replace(super()._inside(command), arguments=command.arguments)


def test_a_machine_with_a_kernel_of_its_own_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "series"
    write(folder, record(), record(START + SECOND))
    monkeypatch.setattr(places, "_SERIES", str(folder))
    spec = PLAN.machines[0]
    inside = Interface(spec, inside=OnThisHost(spec.name, spec.tier, spec.address, ""))
    deployment = Deployment("lab", tmp_path)
    (row,) = series.read(deployment, PLAN, [inside], START, START + 1)
    assert (row.link, row.machine, row.late_max_ms) == (1, "edge-1", 1.0)
