"""The dashboards: as they were, and as Grafana and Prometheus can use them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from continuum.software.services import observability_dashboards as written
from continuum.software.services import scraping

GOLDEN = Path(__file__).parents[1] / "golden" / "dashboards"
ALL = written.dashboards("kubeedge")
_METRIC = re.compile(r"\b(?:container|apiserver|kubelet|etcd|scheduler)_[a-z_]+")


def panels(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ALL[name])["panels"]
    return found


@pytest.mark.parametrize("name", ALL)
def test_the_json_is_as_it_was(name: str) -> None:
    path = GOLDEN / f"{name}.json"
    if os.environ.get("CONTINUUM_UPDATE_FILES"):
        path.write_text(ALL[name])
    assert ALL[name] == path.read_text(), "look at the difference, then CONTINUUM_UPDATE_FILES=1"


def test_the_cluster_has_a_dashboard_only_where_there_is_one() -> None:
    assert set(written.dashboards("none")) == {"experiment", "machines", "application"}
    assert set(written.dashboards("kubernetes")) == set(ALL)
    assert "KubeEdge" not in written.dashboards("kubernetes")["cluster"]
    assert "KubeEdge" in ALL["cluster"]


@pytest.mark.parametrize("name", ALL)
def test_panels_have_numbers_of_their_own_and_do_not_overlap(name: str) -> None:
    numbers = [panel["id"] for panel in panels(name)]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in panels(name):
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", ALL)
def test_every_panel_asks_our_prometheus(name: str) -> None:
    for panel in panels(name):
        if panel["type"] != "row":
            assert panel["targets"], panel["title"]
            for each in (panel, *panel["targets"]):
                assert each["datasource"] == {"type": "prometheus", "uid": "continuum"}


@pytest.mark.parametrize("name", ALL)
def test_phases_are_marked_on_every_dashboard(name: str) -> None:
    (marks,) = json.loads(ALL[name])["annotations"]["list"]
    assert "continuum_run_phase" in marks["expr"]
    assert marks["enable"]


def test_queries_are_all_of_them() -> None:
    expressions = [query.expression for query in written.queries("kubeedge")]
    text = "".join(ALL.values())
    assert len(expressions) == len(re.findall(r'"expr": ', text)) + text.count("label_values(")
    assert all(expressions)


def test_what_is_asked_of_the_cluster_is_collected() -> None:
    """Prometheus drops what nobody looks at: what somebody looks at must not be among it."""
    kept = re.compile("|".join(scraping.KEPT.values()))
    for query in written.queries("kubeedge"):
        for metric in _METRIC.findall(query.expression):
            assert kept.fullmatch(metric), (query.panel, metric)
