"""Four dashboards for Grafana, as code: experiment, machines, cluster, application.

`dashboards` gives their JSON, `queries` everything that they ask Prometheus, so that a test can ask
it all too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from continuum.software.services.observability_dashboards import (
    application,
    cluster,
    experiment,
    machines,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders.dashboard import Dashboard

_VARIABLE = re.compile(r"label_values\((?P<series>.+), \w+\)")


@dataclass(frozen=True)
class Query:
    """One question to Prometheus: where it stands, and its expression with Grafana's variables."""

    dashboard: str
    panel: str
    expression: str


def dashboards(manager: str) -> dict[str, str]:
    """JSON by name; with a dashboard of the cluster where the resource manager has one."""
    builders: dict[str, Dashboard] = {
        "experiment": experiment.dashboard(),
        "machines": machines.dashboard(),
        "application": application.dashboard(),
    }
    if manager in cluster.MANAGERS:
        builders["cluster"] = cluster.dashboard(edge=manager == "kubeedge")
    return {
        name: json.dumps(builder.build(), cls=JSONEncoder, sort_keys=True, indent=1) + "\n"
        for name, builder in builders.items()
    }


def queries(manager: str) -> tuple[Query, ...]:
    """What all dashboards ask, panels, annotations and variables alike."""
    found: list[Query] = []
    for name, text in dashboards(manager).items():
        document = json.loads(text)
        for panel in _panels(document["panels"]):
            found += [
                Query(name, panel["title"], target["expr"]) for target in panel.get("targets", ())
            ]
        for each in document["annotations"]["list"]:
            found.append(Query(name, f"annotation {each['name']}", each["expr"]))
        for each in document["templating"].get("list", ()):
            asked = _VARIABLE.fullmatch(each["query"])
            assert asked is not None
            found.append(Query(name, f"variable {each['name']}", asked["series"]))
    return tuple(found)


def _panels(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))
