"""The report of a run whose samples are pods."""

from __future__ import annotations

import random
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from continuum.benchmark import samples
from continuum.benchmark.applications.empty import Empty
from continuum.benchmark.results import (
    RESOURCES_FILE,
    SAMPLES_FILE,
    ClockReading,
    MachineRecord,
    Results,
    Run,
    write_run,
)
from continuum.benchmark.statistics import aggregate
from continuum.report import pods, terminal
from continuum.report.page import draw, write_report

START = 1_800_000_000_000_000_000
SECOND = 1_000_000_000


def rows(count: int, repetitions: int, lost: int, nodes: int = 3) -> Iterator[dict[str, Any]]:
    chance = random.Random(1)
    for repetition in range(1, repetitions + 1):
        begun = START + repetition * 100 * SECOND
        for number in range(count):
            times = [begun]
            for least in (0.1, 0.01, 0.5, 0.2, 0.3):
                times.append(times[-1] + int((least + 0.05 * number * chance.random()) * SECOND))
            whole = dict(
                zip(
                    ("created_ns", "scheduled_ns", "sandbox_ns", "started_ns", "ready_ns"),
                    times[1:],
                    strict=True,
                )
            )
            status, node = "ok", f"cloud-{2 + number % nodes}"
            if number < lost:
                status, node = "lost", ""
                whole = {"created_ns": times[1]}
            yield {
                "run": "made-up-1",
                "repetition": repetition,
                "warmup": False,
                "endpoint": "cloud-1",
                "worker": node or None,
                "node": node or None,
                "sequence": number,
                "status": status,
                "intended_ns": begun,
                "answered_ns": whole.get("ready_ns"),
                "pod": f"empty-{number}",
                "container": "empty",
                **whole,
            }


def notes(machines: int, repetitions: int) -> Iterator[dict[str, Any]]:
    for repetition in range(1, repetitions + 1):
        begun = START + repetition * 100 * SECOND
        for number in range(1, machines + 1):
            parts = ("machine", "kubelet", *(("etcd", "kube-apiserver") if number == 1 else ()))
            for part in parts:
                for look in range(-5, 40):
                    yield {
                        "run": "made-up-1",
                        "repetition": repetition,
                        "machine": f"cloud-{number}",
                        "part": part,
                        "time_ns": begun + look * SECOND // 5,
                        "cpu_ns": (look + 5) * 30_000_000,
                        "memory_bytes": (100 + look) * 2**20,
                    }


def write(
    folder: Path, *, count: int = 30, repetitions: int = 1, lost: int = 0, **changes: Any
) -> Run:
    application = Empty(Empty.settings_type())
    nodes = changes.pop("nodes", 3)
    table = samples.table(rows(count, repetitions, lost, nodes), application.columns())
    samples.write_samples(folder / SAMPLES_FILE, table, {})
    if changes.pop("resources", True):
        samples.write_resources(folder / RESOURCES_FILE, notes(nodes + 1, repetitions))
    run = Run.model_validate(
        {
            "run": "made-up-1",
            "deployment": "made-up",
            "status": "degraded" if lost else "done",
            "started": "2026-01-31T12:30:05+01:00",
            "finished": "2026-01-31T12:30:33+01:00",
            "noun": "pod",
            "table": aggregate(table, quantities=application.quantities()),
            "machines": [
                MachineRecord(
                    name=f"cloud-{number}",
                    tier="cloud",
                    address=f"10.0.{number}.2",
                    cores=2,
                    quota=1,
                    memory=2**32,
                )
                for number in range(1, nodes + 2)
            ],
            "experiment": {"name": "made-up", "benchmark": {"repetitions": repetitions}},
            **changes,
        }
    )
    write_run(folder, run)
    return run


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(("repetitions", "nodes"), [(1, 1), (3, 3), (1, 8)])
def test_everything_is_drawn(tmp_path: Path, repetitions: int, nodes: int) -> None:
    write(tmp_path, repetitions=repetitions, nodes=nodes)
    drawings = draw(Results.load(tmp_path))
    for name in pods.DRAWINGS:
        assert drawings[name].startswith("<svg"), name
    for name in ("breakdown", "distribution", "timeline"):
        assert not drawings[name]
    text = page_of(tmp_path)
    assert "asked to ready" in text
    assert "By node" in text
    assert "requests" not in text.partition("<body>")[2].partition("<h2>Configuration")[0]
    assert sorted(path.stem for path in (tmp_path / "plots").iterdir()) == sorted(
        [*pods.DRAWINGS, "topology"]
    )


def test_without_notes_of_resources_the_rest_is_drawn(tmp_path: Path) -> None:
    write(tmp_path, resources=False)
    drawings = draw(Results.load(tmp_path))
    assert drawings["pods-over-time"]
    assert not drawings["resources"]
    assert "What it takes of the machines" not in page_of(tmp_path)


def test_pods_that_are_not_ready_are_counted(tmp_path: Path) -> None:
    run = write(tmp_path, count=10, lost=4, reasons=["4 of 10 pods found no node: <none>"])
    text = page_of(tmp_path)
    assert "6 of 10 pods ready, 4 lost" in text
    assert "4 of 10 pods found no node: &lt;none&gt;" in text
    names = [name for name, *_ in pods.cards(run, Results.load(tmp_path).samples)]
    assert "All pods ready" not in names
    assert "Pods ready" in names


def test_not_one_pod_ready_is_a_report_too(tmp_path: Path) -> None:
    run = write(tmp_path, count=5, lost=5)
    assert "0 of 5 pods ready" in page_of(tmp_path)
    drawings = draw(Results.load(tmp_path))
    assert drawings["pods-over-time"]
    assert not drawings["pods-steps"]
    assert pods.node_rows(run) == []


def test_the_cards_say_when_all_were_ready(tmp_path: Path) -> None:
    run = write(tmp_path, count=20)
    table = Results.load(tmp_path).samples
    assert table is not None
    last = max(table["ready_ns"].to_pylist()) - START - 100 * SECOND
    (card,) = [each for each in pods.cards(run, table) if each[0] == "All pods ready"]
    assert float(card[1]) == pytest.approx(last / SECOND, abs=0.01)


def test_more_pods_than_lines_are_thinned_out(tmp_path: Path) -> None:
    write(tmp_path, count=1000, resources=False)
    drawing = draw(Results.load(tmp_path))["pods-each"]
    assert len(drawing) < 600_000


def test_the_nodes_are_rows(tmp_path: Path) -> None:
    run = write(tmp_path, count=30)
    assert [(row.name, row.samples, row.missing) for row in pods.node_rows(run)] == [
        ("cloud-2", 10, 0),
        ("cloud-3", 10, 0),
        ("cloud-4", 10, 0),
    ]
    assert len(pods.node_columns(run)) == len(pods.node_rows(run)[0].steps) == 6


def test_the_summary_in_the_terminal(tmp_path: Path) -> None:
    run = write(tmp_path, count=10, lost=1)
    out = StringIO()
    Console(file=out, width=120).print(terminal.summary(run, tmp_path))
    text = out.getvalue()
    assert "asked to ready, ms" in text
    assert "9 of 10 pods ready, 1 lost." in text
    assert "requests" not in text


def test_resources_survive_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    kept = samples.read_resources(tmp_path / RESOURCES_FILE).to_pylist()
    assert kept == list(notes(4, 1))


def test_steps_from_one_clock_to_another_are_marked_where_clocks_are_off(tmp_path: Path) -> None:
    readings = [
        ClockReading(
            machine=machine,
            repetition=1,
            when=when,
            at_ns=START,
            offset_ns=offset,
            bound_ns=1_000,
        )
        for when in ("before", "after")
        for machine, offset in (("cloud-1", 0), ("cloud-2", SECOND // 10), ("cloud-3", 0))
    ]
    clock = {"one_clock": False, "readings": readings}
    run = write(tmp_path, nodes=2, clock=clock)
    first, second = pods.node_rows(run)
    names = [each.quantity for each in run.all.statistics] if run.all else []
    marked = {name for name, step in zip(names, first.steps, strict=True) if "†" in step.value}
    assert marked == {"sandbox_ms", "ready_ms"}
    told = {name for name, step in zip(names, second.steps, strict=True) if step.clocks}
    assert told == marked
    assert not any("†" in step.value for step in second.steps)
    page = write_report(tmp_path).read_text()
    assert "clocks +100.0 ± 0.002" in page
    assert "clocks −100.0 ± 0.002" in page
