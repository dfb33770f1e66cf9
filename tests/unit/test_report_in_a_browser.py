"""The report as a person opens it: in a browser, on a wide and on a narrow screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from browser import NARROW, WIDE, tab
from continuum.report.page import write_report
from made_up_runs import MadeUp


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_figure_is_drawn_and_can_be_read(tmp_path: Path, width: int) -> None:
    MadeUp(repetitions=2).write(tmp_path)
    page = write_report(tmp_path)
    with tab(width) as opened:
        opened.page.goto(page.as_uri())
        opened.wait("svg")
        drawings = opened.page.locator("svg")
        assert drawings.count() >= 5
        for number in range(drawings.count()):
            box = drawings.nth(number).bounding_box()
            assert box is not None
            assert box["width"] > 200
            assert box["height"] > 60
            assert drawings.nth(number).locator("path, line, rect, circle, polyline").count()
        assert opened.complaints == []
        assert opened.asked == [page.as_uri()]
        assert opened.faults() == []
