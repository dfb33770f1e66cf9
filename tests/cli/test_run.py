from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from command_line import BENCHMARK, Cli, Write
from continuum.infrastructure.providers.fake import Fake
from continuum.testing import synthetic

FILES = {"run.json", "samples.parquet", "links.parquet", "report.html"}


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def test_a_run_from_file_to_report(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--results", "here")
    assert ending.code == 0, ending.stderr
    folder = tmp_path / "here"
    assert {path.name for path in folder.iterdir()} >= FILES
    assert _record(folder)["status"] == "done"
    # 2 endpoints, 20 Hz, 0.1 s of warm-up and 0.5 s.
    assert pq.read_table(folder / "samples.parquet").num_rows == 2 * 12
    assert "latency" in ending.stdout
    assert str(folder / "report.html") in ending.stdout
    for step in ("link check", "workers", "repetition 1 of 1"):
        assert f"done    benchmark: {step}" in ending.stderr
    assert "the machines stay up: continuum down paper" in ending.stderr
    assert len(cli("status", "--json").json) == 1


def test_poisson_arrivals_are_those_of_the_seed(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(rest=BENCHMARK)
    for folder in ("one", "again"):
        arguments = ("--results", folder, "--set", "benchmark.arrivals=poisson", "--repeat", 2)
        ending = cli("run", path, *arguments)
        assert ending.code == 0, ending.stderr
        assert "Arrivals: Poisson; load of the workers: " in ending.stdout
    tables = [pq.read_table(tmp_path / folder / "samples.parquet") for folder in ("one", "again")]
    assert tables[0].num_rows == tables[1].num_rows
    counts: dict[tuple[int, str], int] = {}
    for repetition, endpoint in zip(
        *(tables[0][name].to_pylist() for name in ("repetition", "endpoint")), strict=True
    ):
        counts[repetition, endpoint] = counts.get((repetition, endpoint), 0) + 1
    # As many as were drawn, which is not the same for all.
    assert len(counts) == 4
    assert len(set(counts.values())) > 1
    record = _record(tmp_path / "one")
    assert record["experiment"]["benchmark"]["arrivals"] == "poisson"
    assert [each["name"] for each in record["loads"]] == ["all", "worker-1"]
    assert "Arrivals: Poisson" in (tmp_path / "one" / "report.html").read_text()


def test_arrivals_of_a_file_are_sent_as_they_stand_in_it(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    path = write(rest=BENCHMARK)
    (tmp_path / "times.csv").write_text("endpoint-1,endpoint-2\n0.05,0.11\n0.2,0.2\n0.35,\n")
    setting = 'benchmark.arrivals={ file = "times.csv" }'
    ending = cli("run", path, "--results", "here", "--set", setting)
    assert ending.code == 0, ending.stderr
    table = pq.read_table(tmp_path / "here" / "samples.parquet").to_pylist()
    first = min(each["intended_ns"] for each in table)
    into = [(each["endpoint"], round((each["intended_ns"] - first) / 1e6)) for each in table]
    assert sorted(into) == [
        *(("endpoint-1", at) for at in (0, 150, 300)),
        *(("endpoint-2", at) for at in (60, 150)),
    ]
    assert [each["warmup"] for each in table] == [True, False, False, False, False]
    assert len(_record(tmp_path / "here")["hashes"]["arrivals"]) == 64
    assert f"requests as in {tmp_path}/times.csv" in cli("plan", path, "--set", setting).stdout
    # A line that is no time is told with its place, by every verb, before anything is done.
    (tmp_path / "times.csv").write_text("0.1\nsoon\n")
    for verb in ("validate", "plan", "up", "run"):
        ending = cli(verb, path, "--set", setting)
        assert ending.code == 2
        assert (
            f'{tmp_path}/times.csv:2: "soon" is not a time in seconds'
            in ending.stdout + ending.stderr
        )


def test_results_lie_where_one_stands_unless_told(cli: Cli, write: Write, tmp_path: Path) -> None:
    assert cli("run", write(rest=BENCHMARK)).code == 0
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("paper-")


def test_json_is_the_record(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--results", "here", "--json")
    assert ending.json == _record(tmp_path / "here")


def test_what_is_made_up_has_no_host(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--results", "here", "--json")
    assert ending.json["host_share"] == []
    assert not (tmp_path / "here" / "stalls.parquet").exists()
    table = pq.read_table(tmp_path / "here" / "samples.parquet")
    assert table["host_stall_ms"].null_count == table.num_rows
    assert "own share" not in (tmp_path / "here" / "report.html").read_text()


def test_repeat_sets_the_repetitions(cli: Cli, write: Write) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--repeat", 3, "--json")
    assert ending.json["experiment"]["benchmark"]["repetitions"] == 3
    assert len(ending.json["seeds"]) == 1 + 3 * 2
    assert "benchmark: repetition 3 of 3" in ending.stderr
    assert cli("run", write(rest=BENCHMARK), "--repeat", 0).code == 2


def test_down_removes_everything_but_the_results(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--results", "here", "--down")
    assert ending.code == 0
    assert "stay up" not in ending.stderr
    assert cli("status", "--json").json == []
    assert (tmp_path / "here" / "report.html").exists()


def test_the_file_can_say_that_too(cli: Cli, write: Write) -> None:
    assert cli("run", write(infrastructure="delete = true", rest=BENCHMARK)).code == 0
    assert cli("status", "--json").json == []


def test_without_a_benchmark_the_links_are_measured(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(), "--results", "here")
    assert ending.code == 0
    assert "benchmark: link check" in ending.stderr
    assert (tmp_path / "here" / "links.parquet").exists()
    assert not (tmp_path / "here" / "samples.parquet").exists()


def test_a_link_out_of_tolerance_stops_the_run(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK, fake="links_off_by = 50.0"), "--results", "here")
    assert ending.code == 1
    assert "out of tolerance" in ending.stderr
    assert "endpoint-1" in ending.stderr
    assert "--accept links" in ending.stderr
    assert "workers" not in ending.stderr
    record = _record(tmp_path / "here")
    assert record["status"] == "failed"
    assert not all(pq.read_table(tmp_path / "here" / "links.parquet")["ok"].to_pylist())


def test_what_drops_packets_on_this_host_is_named_where_links_fail(
    cli: Cli, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "packets between machines are dropped by table inet filter, chain forward"
    monkeypatch.setattr(Fake, "traffic_obstacles", lambda *_: [told])
    path = write(rest=BENCHMARK, fake="links_off_by = 50.0")
    ending = cli("run", path, "--results", "here")
    assert ending.code == 1
    assert told in ending.stderr
    assert "less busy" not in ending.stderr


def test_a_link_out_of_tolerance_can_be_accepted(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(rest=BENCHMARK, fake="links_off_by = 50.0")
    ending = cli("run", path, "--results", "here", "--accept-links")
    assert ending.code == 0
    assert "going on, as asked" in ending.stderr
    assert (tmp_path / "here" / "samples.parquet").exists()
    record = _record(tmp_path / "here")
    assert record["status"] == "degraded"
    assert [reason["code"] for reason in record["reasons"]] == ["links"]
    first, second, *_ = ending.stdout.splitlines()
    assert first.startswith("degraded")
    assert first.endswith("(accepted: links)")
    assert "out of tolerance [links]" in second
    assert "accepted: links" in (tmp_path / "here" / "report.html").read_text()


def test_reasons_are_accepted_by_the_file_too_and_only_those_named(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    path = write(rest=f"{BENCHMARK}accept = ['links']\n", fake="links_off_by = 50.0\nloss = 100.0")
    ending = cli("run", path, "--results", "one", "--accept", "host-busy")
    assert ending.code == 1
    codes = [reason["code"] for reason in _record(tmp_path / "one")["reasons"]]
    assert codes == ["links", "unanswered"]
    ending = cli("run", path, "--results", "two", "--accept", "host-busy,unanswered")
    assert ending.code == 0
    assert "(accepted: links, unanswered)" in ending.stdout.splitlines()[0]


def test_limits_that_do_not_hold_stop_at_up(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(rest=BENCHMARK, fake="limits_off_by = 50.0")
    for command in (("up", path), ("up", path), ("run", path, "--results", "here")):
        ending = cli(*command)
        assert ending.code == 3
        assert "limits of machines do not hold on this host" in ending.stderr
        assert "endpoint-1 memory: asked " in ending.stderr
    assert not (tmp_path / "here").exists()


def test_a_limit_that_is_not_shown_is_a_reason(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(rest=BENCHMARK, fake="limits_off_by = -50.0")
    ending = cli("run", path, "--results", "one")
    assert ending.code == 1
    assert "not shown: endpoint-1 cores: asked 1 cores, measured 0.5 cores" in ending.stderr
    record = _record(tmp_path / "one")
    assert {reason["code"] for reason in record["reasons"]} == {"limits"}
    assert record["reasons"][0]["figures"]["measured"] == 0.5
    verdicts = {(each["limit"], each["verdict"]) for each in record["limits"]}
    assert verdicts == {("cores", "not shown"), ("memory", "holds")}
    assert "not shown" in (tmp_path / "one" / "report.html").read_text()
    # It is tried again each time, and can be taken as data.
    ending = cli("run", path, "--results", "two", "--accept", "limits")
    assert ending.code == 0
    assert "infrastructure: limits" in ending.stderr


def test_limits_are_measured_once(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(rest=BENCHMARK)
    assert "infrastructure: limits" in cli("up", path).stderr
    ending = cli("run", path, "--results", "here")
    assert ending.code == 0
    assert "infrastructure: limits" not in ending.stderr
    assert {each["verdict"] for each in _record(tmp_path / "here")["limits"]} == {"holds"}


def test_an_unknown_code_is_refused_before_anything_is_made(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    ending = cli("run", write(rest=BENCHMARK), "--results", "here", "--accept", "everything")
    assert ending.code == 2
    assert 'no reason has the code "everything"' in ending.stderr
    path = write(rest=f"{BENCHMARK}accept = ['link']\n")
    ending = cli("run", path, "--results", "here")
    assert ending.code == 2
    assert f"{path.name}:" in ending.stderr
    assert 'no reason has the code "link"' in ending.stderr
    assert not (tmp_path / "here").exists()


def test_links_that_go_during_the_load_degrade_the_run(cli: Cli, write: Write) -> None:
    file = write(rest=BENCHMARK)
    lost = ("--set", "infrastructure.fake.lost_links=1")
    ending = cli("run", file, *lost, "--repeat", 2, "--json")
    assert ending.code == 1
    reasons = [each for each in ending.json["reasons"] if each["code"] == "emulator"]
    assert [each["sentence"] for each in reasons] == [
        f"links were not in force as declared after repetition {number}: edge → endpoint"
        for number in (1, 2)
    ]
    assert reasons[0]["figures"] == {"repetition": 1, "missing": 1}
    assert cli("status").code == 1
    assert cli("up", file).code == 0
    assert cli("status").code == 0


def test_a_run_records_queues_and_tcp_settings(cli: Cli, write: Write) -> None:
    network = ("--set", "network.queue=64 kB", "--set", "network.tcp.congestion_control=reno")
    ending = cli("run", write(rest=BENCHMARK), *network, "--json")
    assert ending.json["tcp"]["net.ipv4.tcp_congestion_control"] == "reno"
    limited = [each for each in ending.json["links"] if each["rate_mbit"] is not None]
    assert {each["queue_bytes"] for each in limited} == {64_000}


def test_all_pairs_measures_more(cli: Cli, write: Write, tmp_path: Path) -> None:
    path = write(edge=2)
    cli("run", path, "--results", "one")
    cli("run", path, "--results", "all", "--all-pairs")
    rows = [pq.read_table(tmp_path / name / "links.parquet").num_rows for name in ("one", "all")]
    assert rows[1] > rows[0]


def test_lost_requests_degrade_the_run(cli: Cli, write: Write, tmp_path: Path) -> None:
    ending = cli("run", write(rest=BENCHMARK, fake="loss = 100.0"), "--results", "here")
    assert ending.code == 1
    assert "degraded" in ending.stdout
    assert _record(tmp_path / "here")["status"] == "degraded"
    statuses = pq.read_table(tmp_path / "here" / "samples.parquet")["status"].to_pylist()
    assert set(statuses) == {"lost"}


@pytest.mark.parametrize(
    ("operation", "status"),
    [("measure", "failed"), ("systemd-run:edge-1", "failed"), ("systemd-run:endpoint-1", "failed")],
)
def test_a_step_that_fails_leaves_a_record(
    cli: Cli, write: Write, tmp_path: Path, operation: str, status: str
) -> None:
    path = write(rest=BENCHMARK, fake=f'fail_at = ["{operation}"]')
    ending = cli("run", path, "--results", "here")
    assert ending.code == 1
    assert "as the setting fail_at says" in ending.stderr
    record = _record(tmp_path / "here")
    assert record["status"] == status
    assert record["reasons"]
    assert (tmp_path / "here" / "report.html").exists()
    assert cli("run", write(rest=BENCHMARK), "--results", "again").code == 0


def test_a_results_folder_that_is_not_empty_is_left_alone(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    ending = cli("run", write(rest=BENCHMARK), "--results", folder)
    assert ending.code == 2
    assert "not an empty folder" in ending.stderr
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert not (tmp_path / ".state" / "continuum" / "deployments" / "paper" / "plan").exists()


def test_the_report_can_be_made_again_elsewhere(cli: Cli, write: Write, tmp_path: Path) -> None:
    cli("run", write(rest=BENCHMARK), "--results", "here", "--down")
    moved = (tmp_path / "here").rename(tmp_path / "moved")
    (moved / "report.html").unlink()
    ending = cli("report", moved)
    assert ending.code == 0
    assert "latency" in ending.stdout
    assert (moved / "report.html").exists()
    assert cli("report", moved, "--json").json == _record(moved)


def test_a_report_names_the_way_to_remove_what_is_there(
    cli: Cli, write: Write, tmp_path: Path
) -> None:
    cli("run", write(rest=BENCHMARK), "--results", "here")
    assert "continuum down paper" in cli("report", tmp_path / "here").stdout
    assert cli("down", "paper").code == 0
    ending = cli("report", tmp_path / "here")
    assert ending.code == 0
    assert str(tmp_path / "here/report.html") in ending.stdout
    assert "continuum down" not in ending.stdout


@pytest.mark.parametrize(
    ("content", "code"), [(None, 5), ("", 1), ("{", 1), ('{"schema_version": "99"}', 1), ("[]", 1)]
)
def test_what_is_no_results_folder_is_told(
    cli: Cli, tmp_path: Path, content: str | None, code: int
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    ending = cli("report", tmp_path)
    assert ending.code == code
    assert "error:" in ending.stderr
    assert cli("report", tmp_path / "absent").code == 5


def test_what_differs_from_the_expectation_and_what_grows_comes_first(
    cli: Cli, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of machines whose figures are not made up: programs add 50 ms, and the worker is too slow."""
    real = dataclasses.replace(Fake.capabilities, made_up=False)
    monkeypatch.setattr(Fake, "capabilities", real)
    slow = functools.partial(synthetic.Behaviour, programs_ms=50, processing_ms=120)
    monkeypatch.setattr(synthetic, "Behaviour", slow)
    loaded = BENCHMARK.replace('"0.5 s"', '"2 s"').replace("machines = 2", "machines = 1")
    ending = cli("run", write(rest=loaded), "--results", "here")
    assert ending.code == 1
    record = _record(tmp_path / "here")
    assert record["status"] == "degraded"
    codes = [reason["code"] for reason in record["reasons"]]
    assert set(codes) == {"expectation", "not-steady"}
    assert codes == sorted(codes)
    first = record["reasons"][0]
    assert first["figures"]["quantity"] == "forward_ms"
    assert first["figures"]["difference_ms"] == pytest.approx(50, abs=5)
    said = ending.stdout.splitlines()
    assert said[0].startswith("degraded")
    assert "forward delay differs by +" in said[1]
    assert cli("run", write(rest=loaded), *("--accept", "expectation")).code == 1
    both = ("--accept", "expectation", "--accept", "not-steady")
    assert cli("run", write(rest=loaded), *both).code == 0
