"""What the report and the terminal say of functions."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from rich.console import Console

from continuum.benchmark.results import FunctionsRecord, StartRecord
from continuum.report import functions, terminal
from continuum.report.page import write_report
from made_up_runs import MadeUp

STARTS = (
    StartRecord(worker="worker-1", kind="cold", number=1, seconds=2.0),
    StartRecord(worker="worker-1", kind="cold", number=2, seconds=3.0),
    StartRecord(worker="worker-1", kind="zero", number=1, seconds=1.5),
    StartRecord(
        worker="worker-1", kind="out", number=1, seconds=2.5, replicas=3, moments=(1.25, 2.5)
    ),
)
OURS = FunctionsRecord(
    distribution="builtin",
    gateway="http://10.1.0.2:31112",
    user="admin",
    credentials="continuum k",
)
RUN = MadeUp(changes={"functions": OURS, "starts": STARTS})


def shown(made_up: MadeUp) -> str:
    console = Console(file=StringIO(), width=110, no_color=True)
    console.print(terminal.summary(made_up.run(made_up.table()), Path("results")))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_row_for_each_kind_that_was_measured() -> None:
    rows = {row.kind: row for row in functions.start_rows(RUN.run(None))}
    assert list(rows) == ["cold start", "start from zero", "scaling out to 3 replicas"]
    cold = rows["cold start"]
    assert (cold.n, cold.mean, cold.median, cold.least, cold.most) == (
        2,
        "2.50",
        "2.50",
        "2.00",
        "3.00",
    )


def test_the_page_has_the_table_the_plot_and_whose_gateway_it_was(tmp_path: Path) -> None:
    RUN.write(tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for text in (
        "It is not OpenFaaS",
        "scaling out to 3 replicas",
        OURS.gateway,
        OURS.credentials,
    ):
        assert text in page
    # One dot for each start, and one for each further replica.
    plot = (tmp_path / "plots" / "starts.svg").read_text()
    assert plot.count("<use ") >= 5
    assert "start from zero" in plot


def test_a_run_without_functions_has_none_of_it(tmp_path: Path) -> None:
    MadeUp().write(tmp_path)
    assert "<h2>Functions" not in write_report(tmp_path).read_text(encoding="utf-8")
    assert not (tmp_path / "plots" / "starts.svg").exists()
    assert "gateway" not in shown(MadeUp())


def test_the_terminal_ends_with_the_gateway_and_where_its_password_is() -> None:
    text = shown(RUN)
    assert "It is not OpenFaaS" in " ".join(text.split())
    assert "start from zero" in text
    end = text[text.index("report ") :]
    assert f"{OURS.gateway} (user admin)" in end
    assert OURS.credentials in end
