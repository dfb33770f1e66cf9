"""The report: the page, its drawing and plots, and the summary in the terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from continuum.benchmark import samples
from continuum.benchmark.reasons import Reason
from continuum.benchmark.results import LINKS_FILE, Run, WorkerRecord, write_run
from continuum.benchmark.samples import write_link_series
from continuum.errors import NotFound
from continuum.infrastructure.plan import LinkSettings
from continuum.report import format as show
from continuum.report import plots, terminal, topology
from continuum.report.fitted import Column, Fitted, label
from continuum.report.page import write_report
from continuum.report.table import MADE_UP, cell, link_rows, summary_table
from continuum.testing.synthetic import Behaviour, MadeUpLoad
from made_up_runs import CLOUD_4G, EDGE_4G, MadeUp, Measurement

if TYPE_CHECKING:
    import pyarrow as pa

GOLDEN = Path(__file__).parent.parent / "golden" / "report"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Elements that are open at the end, addresses that would be loaded, and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.elements: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "action", "data"} and value:
                self.addresses.append(value)
            if name == "id" and value:
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(made_up: MadeUp, folder: Path) -> Page:
    made_up.write(folder)
    path = write_report(folder)
    assert path == folder / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    return page


LOSSY = Behaviour(forward=LinkSettings(7.5, 2.5, 8, 7.21), back=EDGE_4G, late=0.05, failed=0.03)
EVERY_KIND = {
    "plain": MadeUp(),
    "one endpoint": MadeUp(tiers={"edge": 1, "endpoint": 1}, endpoints=1),
    "many endpoints": MadeUp(tiers={"edge": 1, "endpoint": 60}, endpoints=60),
    "repetitions": MadeUp(repetitions=14, load=MadeUpLoad(duration=2, warmup=0)),
    "many samples": MadeUp(load=MadeUpLoad(frequency=200)),
    "lossy": MadeUp(repetitions=2, behaviour=LOSSY),
    "all lost": MadeUp(behaviour=Behaviour(forward=LinkSettings(loss_percent=100))),
    "one request": MadeUp(endpoints=1, load=MadeUpLoad(frequency=1, warmup=0, duration=1)),
    "no links": MadeUp(links=(), behaviour=Behaviour()),
    "links not measured": MadeUp(measured=False),
    "infrastructure only": MadeUp(endpoints=0),
    "nothing at all": MadeUp(tiers={}, endpoints=0, links=()),
    "overload": MadeUp(behaviour=Behaviour(processing_ms=900)),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_run_has_a_page_that_loads_nothing(kind: str, tmp_path: Path) -> None:
    page = report(EVERY_KIND[kind], tmp_path)
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.elements)
    assert "made-up" in page.text
    # Stand-in colours have all become variables of the page.
    assert not re.search(r"#0[0-9a-d]0[0-9a-d]0[0-9a-d]", (tmp_path / "report.html").read_text())


def test_the_page_shows_what_the_run_holds(tmp_path: Path) -> None:
    made_up = MadeUp()
    page = report(made_up, tmp_path)
    run = made_up.run(made_up.table())
    assert run.all is not None
    for row in summary_table(run):
        for each in (row.mean, row.deviation, row.p50, row.p95, row.p99):
            assert each.value in page.text
            assert each.interval in page.text
            assert each.maximum in page.text
    for words in (
        "100 of 100 requests answered",
        "as expected",
        "ssh -F ssh_config endpoint-2",
        "continuum down made-up",
        'name = "made-up"',
        "A Processor",
        "16 GiB",
        "one clock",
        "A quota caps what all cores of a machine do together",
        "9f1c2d3e4b5a6978",
        "asked 7.5 ± 1.00",
        "holds",
    ):
        assert words in page.text, words


def test_the_status_and_its_reasons_come_first(tmp_path: Path) -> None:
    reasons = ["12 of 540 requests got no answer", "worker-1 has failed"]
    page = report(
        MadeUp(behaviour=LOSSY, changes={"status": "degraded", "reasons": reasons}), tmp_path
    )
    head = page.text[: page.text.index("Overview")]
    assert "degraded" in head
    assert all(reason in head for reason in reasons)
    for words in ("lost", "too late", "with an error", "unanswered", "not modelled"):
        assert words in page.text


def test_a_link_out_of_tolerance_is_said(tmp_path: Path) -> None:
    made_up = MadeUp()
    made_up.write(tmp_path)
    off = Measurement(
        "edge", "endpoint", "edge-1", "endpoint-2", "delay_ms", 7.5, None, 1, ok=False
    )
    samples.write_links(tmp_path / LINKS_FILE, [*made_up.measurements(), off])
    page = Page(write_report(tmp_path).read_text())
    assert "out of tolerance" in page.text
    assert "edge-1 → endpoint-2" in page.text


def test_thousands_of_links_are_cut_but_never_those_that_fail(tmp_path: Path) -> None:
    made_up = MadeUp(endpoints=0)
    made_up.write(tmp_path)
    many = [
        Measurement("edge", "endpoint", "edge-1", f"m-{n}", "delay_ms", 7.5, 7.6, 1, ok=n != 2999)
        for n in range(3000)
    ]
    samples.write_links(tmp_path / LINKS_FILE, many)
    page = Page(write_report(tmp_path).read_text())
    assert "m-2999" in page.text
    assert "And 2600 more that hold" in page.text
    assert len((tmp_path / "report.html").read_text()) < 600_000


def test_hosts_are_told_where_there_are_several(tmp_path: Path) -> None:
    run = MadeUp().write(tmp_path)
    assert "big-host" not in Page(write_report(tmp_path).read_text()).text
    first, *others = run.machines
    machines = (first.model_copy(update={"host": "big-host"}), *others)
    write_run(tmp_path, run.model_copy(update={"machines": machines}))
    text = Page(write_report(tmp_path).read_text()).text
    assert "big-host" in text
    # The others are on the host that the run was started on.
    assert text.split("Machines", 1)[1].count("this") >= len(others)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    made_up = MadeUp()
    run = made_up.write(tmp_path)
    machines = [
        machine.model_copy(update={"tier": f"{machine.tier}{evil}", "ssh": evil})
        for machine in run.machines
    ]
    changed = run.model_copy(
        update={
            "run": evil,
            "reasons": tuple(
                Reason(code=evil, sentence=sentence)
                for sentence in (evil, "\x1b[31mred", "$\\frac{1}{2}$", "half \udc80")
            ),
            "machines": tuple(machines),
            "workers": (WorkerRecord(name=evil, machine="edge-1"),),
            "table": tuple(
                group.model_copy(update={"name": "$a_{b$ <i> 漢字 &amp;"}) for group in run.table
            ),
            "versions": {evil: evil},
            "host": {evil: evil},
            "experiment_text": f"</pre>{evil}",
            "experiment": {"name": evil, "tiers": [evil], "benchmark": {}},
            "notes": (evil,),
        }
    )
    write_run(tmp_path, changed)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.open == []
    assert "script" not in page.elements
    assert evil in page.text


def test_a_report_can_be_made_again_and_is_the_same(tmp_path: Path) -> None:
    MadeUp().write(tmp_path)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_a_folder_without_results_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        write_report(tmp_path)


def test_an_endpoint_that_answers_itself_is_no_worker(tmp_path: Path) -> None:
    made_up = MadeUp(tiers={"endpoint": 2}, links=(), behaviour=Behaviour())
    table = made_up.table()
    place = table.column_names.index("worker")
    itself = table.set_column(place, table.schema.field(place), table["endpoint"])
    made_up.write(tmp_path)
    run = made_up.run(itself)
    write_run(tmp_path, run)
    page = Page(write_report(tmp_path).read_text())
    assert "worker requests" not in page.text
    assert "endpoint requests" in page.text
    assert "\nworker " not in shown(run)


def test_drawings_are_files_of_their_own(tmp_path: Path) -> None:
    MadeUp().write(tmp_path)
    write_report(tmp_path)
    names = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert names == {"topology", "breakdown", "links", "distribution", "timeline"}
    for name in names:
        text = (tmp_path / "plots" / f"{name}.svg").read_text(encoding="utf-8")
        root = ET.fromstring(text)  # noqa: S314  our own file
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in text
    MadeUp(endpoints=0).write(tmp_path)
    (tmp_path / "samples.parquet").unlink()
    write_report(tmp_path)
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == {"topology", "links"}


def test_the_timeline_marks_what_was_not_answered() -> None:
    svg = str(plots.timeline(MadeUp(repetitions=2, behaviour=LOSSY).table()))
    for words in ("lost (", "too late (", "error (", "endpoint-1", "endpoint-2"):
        assert words in svg


def with_column(table: pa.Table, name: str, column: list[Any]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(place), [column])


def test_the_timeline_counts_what_the_table_counts() -> None:
    table = MadeUp(behaviour=Behaviour()).table()
    assert table["warmup"].to_pylist()[:2] == [True, True]
    kept = [index for index, warm in enumerate(table["warmup"].to_pylist()) if not warm]
    status, intended = table["status"].to_pylist(), table["intended_ns"].to_pylist()
    status[0] = status[1] = "error"
    for index in kept[:5]:
        status[index] = "lost"
    for index in kept[2:8]:
        intended[index] = None
    status[kept[7]] = "timeout"
    changed = with_column(with_column(table, "status", status), "intended_ns", intended)
    svg = str(plots.timeline(changed))
    assert "lost (5)" in svg
    assert "too late (1)" in svg
    assert "error (" not in svg


def test_many_samples_become_bands() -> None:
    table = MadeUp(load=MadeUpLoad(frequency=400)).table()
    svg = str(plots.timeline(table))
    assert "5 … 95 %" in svg
    assert len(svg) < 100_000
    assert len(str(plots.distribution(MadeUp().run(None), table))) < 100_000


def test_one_request_far_from_all_others_makes_the_axis_logarithmic() -> None:
    table = MadeUp(behaviour=Behaviour()).table()
    answered = table["answered_ns"].to_pylist()
    answered[30] += 60 * 10**9
    far = with_column(table, "answered_ns", answered)
    run = MadeUp().run(None)
    for shown_far, shown_near in (
        (plots.distribution(run, far), plots.distribution(run, table)),
        (plots.timeline(far), plots.timeline(table)),
    ):
        assert ">10,000<" in shown_far
        assert ">10,000<" not in shown_near
        assert "$" not in shown_far


def test_the_breakdown_shows_the_expected_transfers_only_when_there_are_any() -> None:
    made_up = MadeUp()
    assert ">expected<" in str(plots.breakdown(made_up.run(made_up.table())))
    lossy = MadeUp(behaviour=LOSSY)
    assert ">expected<" not in str(plots.breakdown(lossy.run(lossy.table())))
    assert plots.breakdown(made_up.run(None)) == ""


def test_nothing_measured_draws_no_links() -> None:
    assert plots.links(None) == ""
    assert link_rows(None) == []


def drawing(made_up: MadeUp, folder: Path, **changes: Any) -> str:
    table = None
    if made_up.measured:
        samples.write_links(folder / LINKS_FILE, made_up.measurements())
        table = samples.read_links(folder / LINKS_FILE)
    run = made_up.run(None).model_copy(update=changes)
    return str(topology.draw(run, table))


def test_the_topology_is_drawn_as_kept_in_the_repository(tmp_path: Path) -> None:
    svg = drawing(MadeUp(), tmp_path).replace("><", ">\n<") + "\n"
    assert svg == (GOLDEN / "topology.svg").read_text(encoding="utf-8")


def test_many_machines_are_counted_rather_than_drawn(tmp_path: Path) -> None:
    svg = drawing(MadeUp(tiers={"cloud": 1, "edge": 1, "endpoint": 500}), tmp_path)
    assert "and 495 more" in svg
    assert "500 machines" in svg
    assert svg.count('class="chip"') == 8


def test_directions_that_differ_are_both_told(tmp_path: Path) -> None:
    links = [
        ("cloud", "edge", CLOUD_4G),
        ("cloud", "endpoint", CLOUD_4G),
        ("endpoint", "cloud", EDGE_4G),
        ("edge", "edge", LinkSettings(delay_ms=3)),
    ]
    svg = drawing(MadeUp(links=links, measured=False), tmp_path)
    assert "↓ 45 ± 5 ms" in svg
    assert "↑ 7.5 ± 2.5 ms" in svg
    assert "among them 3 ms" in svg


def test_links_of_single_machines_and_many_tiers_do_not_hinder(tmp_path: Path) -> None:
    tiers = {f"tier{number}": 1 for number in range(7)}
    links = [(a, b, CLOUD_4G) for a in tiers for b in tiers if a != b]
    svg = drawing(MadeUp(tiers=tiers, links=[*links, ("tier0-1", "tier1", EDGE_4G)]), tmp_path)
    assert svg.count('class="tier"') == 7


def shown(run: Run, width: int = 110, **options: Any) -> str:
    console = Console(file=StringIO(), width=width, no_color=True)
    console.print(terminal.summary(run, Path("results/made-up-1"), **options))
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def test_the_summary_is_as_kept_in_the_repository() -> None:
    made_up = MadeUp()
    assert shown(made_up.run(made_up.table())) == (GOLDEN / "summary.txt").read_text(
        encoding="utf-8"
    )


def figures(text: str) -> set[str]:
    """Every word with a digit, of the tables alone."""
    tables = text.partition("requests answered")[0]
    return {word.strip(",;") for word in tables.split() if any(each.isdigit() for each in word)}


@pytest.mark.parametrize("endpoints", [1, 3])
@pytest.mark.parametrize("width", [120, 100, 80, 60, 40])
def test_no_terminal_is_too_narrow_for_whole_figures(width: int, endpoints: int) -> None:
    made_up = MadeUp(endpoints=endpoints, tiers={"edge": 1, "endpoint": endpoints})
    run = made_up.run(made_up.table())
    text = shown(run, width)
    assert max(map(len, text.splitlines())) <= width
    assert figures(text) <= figures(shown(run, 250))
    assert run.all is not None
    mean = run.all.statistics[0].mean
    assert {str(run.all.samples), cell(mean, level="run").value} <= figures(text)
    # Figures without what they are worth are the last to be shown.
    assert ("95 % within" in text.partition("not shown")[0]) is (width >= 60)
    assert ("not shown: 95 % within, deviation" in text) is (width < 60)


def test_a_table_that_does_not_fit_is_left_to_the_terminal_to_wrap() -> None:
    table = Fitted([label(""), Column("mean"), Column("p99", dropped=1)], "elsewhere it is")
    table.add("[b]a name[/b]", "123,456.7", "9.99")
    console = Console(file=StringIO(), width=8, no_color=True)
    console.print(table, crop=False)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "[b]a" in text
    assert "123,456.7" in text
    assert "9.99" not in text


def test_the_summary_of_a_bad_run_says_why() -> None:
    made_up = MadeUp(
        behaviour=LOSSY, changes={"status": "degraded", "reasons": ["a worker\x1b[2J has failed"]}
    )
    text = shown(made_up.run(made_up.table()))
    assert "degraded" in text
    assert "a worker\ufffd[2J has failed" in text
    assert "not modelled" in text
    assert "lost" in text


def test_the_summary_without_a_benchmark_has_the_ways_in() -> None:
    run = MadeUp(endpoints=0, tiers={"edge": 40}).run(None)
    text = shown(run)
    assert "ssh -F ssh_config edge-20\n" in text
    assert "and 20 more: continuum status made-up" in text
    assert "continuum down made-up" in text
    assert "latency" not in text


def test_what_was_removed_has_no_way_in() -> None:
    text = shown(MadeUp(endpoints=0).run(None), removed=True)
    assert "ssh" not in text
    assert "continuum down" not in text
    assert "removed" in text


def test_what_cannot_be_reached_from_here_is_not_named() -> None:
    text = shown(MadeUp(endpoints=0).run(None), reachable=False)
    assert "results/made-up-1/report.html" in text
    assert "ssh" not in text
    assert "continuum down" not in text
    assert "removed" not in text


def test_markup_in_texts_has_no_effect() -> None:
    run = MadeUp(endpoints=0, changes={"run": "[bold]x[/bold]", "reasons": ["[/oops]"]}).run(None)
    text = shown(run)
    assert "[bold]x[/bold]" in text
    assert "[/oops]" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (0.00004, "0"),
        (0.0521, "0.052"),
        (1.818, "1.82"),
        (14.149, "14.15"),
        (127.25, "127.2"),
        (62203.4, "62,203"),
        (-3.5, "−3.50"),
    ],
)
def test_numbers_keep_the_digits_that_count(value: float | None, text: str) -> None:
    assert show.number(value) == text


@pytest.mark.parametrize(
    ("value", "low", "high", "text", "between"),
    [
        (112.234, 109.4, 115.0, "112.2", "109.4 … 115.0"),
        (112.234, 0, 1010, "110", "0 … 1,010"),
        (67_932, 67_480, 68_380, "67,930", "67,480 … 68,380"),
        (14.021, 14.0, 14.04, "14.021", "14.000 … 14.040"),
        (5.31, 5.31 - 0.996, 5.31 + 0.996, "5.3", "4.3 … 6.3"),
        (0.05213, 0.05212, 0.05214, "0.052", "0.052 … 0.052"),
        (130.2, 126.7, None, "130.2", "≥ 126.7"),
        (130.2, None, 134.7, "130.2", "≤ 134.7"),
        # Without an interval three digits count.
        (148.31, None, None, "148", ""),
        (62_203.4, None, None, "62,200", ""),
        (0.0004, None, None, "0", ""),
        (3.3, 3.3, 3.3, "3.30", "3.30 … 3.30"),
        (-3.519, None, None, "−3.52", ""),
    ],
)
def test_no_digit_that_the_interval_does_not_support(
    value: float, low: float | None, high: float | None, text: str, between: str
) -> None:
    half = show.half_width(value, low, high)
    assert show.supported(value, half) == text
    assert show.interval(low, high, half) == between


def test_the_table_says_what_its_intervals_are_over() -> None:
    one, three = MadeUp(), MadeUp(repetitions=3)
    within, between = (shown(each.run(each.table())) for each in (one, three))
    assert "95 % within" in within
    assert "95 % intervals are within this run: another run may differ by more." in within
    assert "95 % between" in between
    assert "95 % intervals are between 3 repetitions." in between


def test_old_bootstraps_are_said_to_be_too_narrow() -> None:
    made_up = MadeUp()
    run = made_up.run(made_up.table())
    old = run.model_dump(mode="json")
    for group in old["table"]:
        for statistic in group["statistics"]:
            for field in ("level", "repetitions", "unanswered", "maximum"):
                del statistic[field]
    text = shown(Run.model_validate(old))
    assert "95 % interval " in text
    assert "bootstraps of an earlier version" in text


def test_drawings_tell_intervals_of_one_run_from_those_of_several() -> None:
    for repetitions, words in ((1, "95 %, this run"), (3, "95 %, 3 repetitions")):
        made_up = MadeUp(repetitions=repetitions)
        table = made_up.table()
        run = made_up.run(table)
        for drawn in (plots.breakdown(run), plots.distribution(run, table)):
            assert words in drawn
            assert ("stroke-dasharray: 2.6" in drawn) is (repetitions == 1)


def test_percentiles_that_no_answer_reached_are_said(tmp_path: Path) -> None:
    made_up = MadeUp(repetitions=2, behaviour=LOSSY, load=MadeUpLoad(duration=30))
    run = made_up.run(made_up.table())
    text = shown(run)
    assert "> 10,000" in text
    assert "p95, p99 > 10 s: " in text
    page = report(made_up, tmp_path)
    assert "p95, p99 > 10 s: " in page.text
    assert "> 10 s" in page.text[: page.text.index("Overview")]


def test_percentiles_of_few_requests_give_way_to_the_longest(tmp_path: Path) -> None:
    made_up = MadeUp(endpoints=1, load=MadeUpLoad(duration=5))
    run = made_up.run(made_up.table())
    assert run.all is not None
    latency = run.all.statistics[0]
    assert latency.maximum is not None
    longest = show.supported(latency.maximum.value)
    lines = shown(run).splitlines()
    assert any(line.split()[-3:] == ["p95", "p99", "max"] for line in lines)
    row = next(line for line in lines if line.startswith("end-to-end latency"))
    assert row.split()[-3:] == ["–", "–", longest]
    page = report(made_up, tmp_path)
    assert f"max {longest}" in page.text
    assert "Latency, longest" in page.text


def test_words_for_shares_times_and_differences() -> None:
    assert show.share(120, 120) == "100 %"
    assert show.share(0, 120) == "0 %"
    assert show.share(119_999, 120_000) == "> 99.9 %"
    assert show.share(1, 120_000) == "< 0.1 %"
    assert show.share(1, 3) == "33.3 %"
    assert show.share(0, 0) == "–"
    assert show.signed(1.5) == "+1.50"
    assert show.percent(-0.01) == "0 %"
    assert show.percent(-2.5) == "−2.5 %"
    assert show.seconds(None) == "–"
    assert show.seconds(12.34) == "12.3 s"
    assert show.seconds(200) == "3 min 20 s"
    assert show.seconds(7200) == "2 h"
    assert show.seconds(7500) == "2 h 5 min"
    assert show.lasted("2026-01-31T12:00:00+00:00", "2026-01-31T12:00:30+00:00") == "30.0 s"
    assert show.lasted("yesterday", "today") == "–"
    assert show.lasted("2026-01-31T12:00:00", "2026-01-31T12:00:30+00:00") == "–"
    assert show.moment("2026-01-31T12:30:05.123+01:00") == "2026-01-31 12:30:05 +01:00"
    assert show.moment("yesterday") == "yesterday"


def test_a_label_can_always_be_drawn() -> None:
    made_up = MadeUp()
    run = made_up.run(made_up.table())
    odd = tuple(replace_name(group, "漢字 $x$ 😀 \x07 " + "very " * 20) for group in run.table)
    assert "????" not in str(plots.breakdown(run))
    assert "$x$" in str(plots.breakdown(run.model_copy(update={"table": odd})))


def replace_name(group: Any, name: str) -> Any:
    return group.model_copy(update={"name": name})


def test_made_up_runs_differ_by_their_behaviour() -> None:
    assert replace(MadeUp(), endpoints=0).run(None).all is None


@pytest.mark.parametrize("made_up", [True, False])
def test_made_up_figures_are_called_so(tmp_path: Path, made_up: bool) -> None:
    page = report(MadeUp(changes={"made_up": made_up}), tmp_path)
    assert (MADE_UP in " ".join(page.words)) is made_up


def test_the_links_during_the_run_are_shown_and_drawn(tmp_path: Path) -> None:
    made_up = MadeUp()
    run = made_up.write(tmp_path)
    due = pq.read_table(tmp_path / "samples.parquet")["intended_ns"].to_pylist()
    start = min(each for each in due if each is not None)
    window = {
        "repetition": 1,
        "source": "edge",
        "destination": "endpoint",
        "machine": "endpoint-1",
        "packets": 50,
        "bytes": 75_700,
        "lost": 1,
        "backlog": 9,
        "delay_ms": 7.5,
        "late_p50_ms": 0.06,
        "late_p99_ms": 0.2,
        "late_max_ms": 0.4,
    }
    rows = [
        {**window, "start_ns": start + 100_000_000 * number, "overflow": number % 2}
        for number in range(20)
    ]
    write_link_series(tmp_path / "link_series.parquet", rows)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Links during the run" in page
    assert "edge → endpoint" in page
    assert (tmp_path / "plots" / "links-over-time.svg").exists()
    assert run.run in page
