"""What dashboards are made of: panels of one look, and the series that several of them ask for."""

from __future__ import annotations

from typing import Protocol

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DashboardLink,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimelinePanel
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeriesPanel
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="continuum")
"""Our Prometheus, as it is provisioned beside the dashboards."""

TAG = "continuum"
SECONDS = "s"
BYTES = "bytes"
BYTES_PER_SECOND = "Bps"
PER_SECOND = "reqps"
SHARE = "percentunit"
NUMBER = "short"

OVER = "[$__rate_interval]"
"""The span of a rate: at least four looks of Prometheus, longer where the page shows more time."""

_HEIGHT = 8
_COLUMNS = 24


def dashboard(name: str, title: str, about: str) -> Dashboard:
    """An empty one: the last minutes, drawn again every five seconds, with the run's phases."""
    return (
        Dashboard(title)
        .uid(f"continuum-{name}")
        .description(about)
        .tags([TAG])
        .time("now-15m", "now")
        .refresh("5s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotation(_phases())
        .link(
            DashboardLink("The others")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(keep_time=True)
        )
    )


def _phases() -> AnnotationQuery:
    """Marks over every plot: warm-up, load and what else a run goes through."""
    return (
        AnnotationQuery()
        .name("run phases")
        .datasource(SOURCE)
        .enable(enable=True)
        .icon_color("blue")
        .expr("max by (run, repetition, phase) (continuum_run_phase)")
        .step("5s")
        .title_format("{{phase}}")
        .text_format("run {{run}}, repetition {{repetition}}")
        .tag_keys("phase")
    )


def choice(name: str, title: str, series: str, label: str) -> QueryVariable:
    """A list at the top of the page: values of a label, all of them to begin with."""
    return (
        QueryVariable(name)
        .label(title)
        .datasource(SOURCE)
        .query(f"label_values({series}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


class Ids:
    """Numbers of a dashboard's panels, in their order."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """One that no panel has yet."""
        self._last += 1
        return self._last


class _Targets(Protocol):
    def with_target(self, target: Dataquery) -> object: ...


def _asked(panel: _Targets, queries: dict[str, str], *, instant: bool = False) -> None:
    for number, (legend, expression) in enumerate(queries.items()):
        query = (
            Dataquery()
            .ref_id(chr(ord("A") + number))
            .datasource(SOURCE)
            .expr(expression)
            .legend_format(legend)
        )
        panel.with_target(query.instant() if instant else query.range())


class Page:
    """A dashboard that is being written, panel by panel."""

    def __init__(self, name: str, title: str, about: str) -> None:
        self.dashboard = dashboard(name, title, about)
        self._ids = Ids()

    def row(self, title: str) -> None:
        """A heading; the panels that follow stand below it."""
        self.dashboard.with_row(Row(title).id(self._ids.next()))

    def plot(  # noqa: PLR0913  what a plot is made of
        self,
        title: str,
        unit: str,
        queries: dict[str, str],
        *,
        about: str = "",
        width: int = _COLUMNS // 2,
        top: float | None = None,
    ) -> None:
        """Lines over time: an expression by legend; `top` is the least end of the axis."""
        panel = (
            TimeSeriesPanel()
            .id(self._ids.next())
            .title(title)
            .description(about)
            .datasource(SOURCE)
            .unit(unit)
            .min(0)
            .height(_HEIGHT)
            .span(width)
            .line_width(1)
            .fill_opacity(8)
            .show_points(VisibilityMode.NEVER)
            .legend(
                common_builder.VizLegendOptions()
                .display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM)
                .show_legend(show_legend=True)
            )
        )
        if top is not None:
            panel.axis_soft_max(top)
        _asked(panel, queries)
        self.dashboard.with_panel(panel)

    def number(self, title: str, unit: str, expression: str, *, about: str = "") -> None:
        """One figure of this moment, with its last minutes as a small line."""
        panel = (
            StatPanel()
            .id(self._ids.next())
            .title(title)
            .description(about)
            .datasource(SOURCE)
            .unit(unit)
            .height(_HEIGHT // 2)
            .span(_COLUMNS // 6)
        )
        _asked(panel, {title: expression})
        self.dashboard.with_panel(panel)

    def states(self, title: str, legend: str, expression: str) -> None:
        """What lasted from when to when."""
        panel = (
            StateTimelinePanel()
            .id(self._ids.next())
            .title(title)
            .datasource(SOURCE)
            .height(_HEIGHT // 2)
            .span(_COLUMNS)
            .show_value(VisibilityMode.NEVER)
        )
        _asked(panel, {legend: expression})
        self.dashboard.with_panel(panel)


def quantiles(histogram: str, chosen: str = "") -> dict[str, str]:
    """Median and tail of a histogram of Prometheus', by legend."""
    return {
        f"p{share * 100:g}": (
            f"histogram_quantile({share:g}, sum by (le) (rate({histogram}_bucket{chosen}{OVER})))"
        )
        for share in (0.5, 0.95, 0.99)
    }


def cores_in_use(chosen: str = "") -> str:
    """Cores that each machine takes."""
    return f"sum by (machine) (rate(continuum_machine_cpu_seconds_total{chosen}{OVER}))"


def cpu_share(chosen: str = "") -> str:
    """Of the cores that each machine may use, the share that it takes."""
    limit = f"sum by (machine) (continuum_machine_cores{chosen})"
    return f"{cores_in_use(chosen)} / {limit}"


def memory_share(chosen: str = "") -> str:
    """Of the memory that each machine may use, the share that it takes."""
    return (
        f"sum by (machine) (continuum_machine_memory_bytes{chosen})"
        f" / sum by (machine) (continuum_machine_memory_limit_bytes{chosen})"
    )


def network(direction: str, chosen: str = "") -> str:
    """Bytes per second that each machine's interfaces carry; `receive` or `transmit`."""
    inside = chosen.strip("{}")
    both = ",".join(filter(None, ('device!="lo"', inside)))
    return f"sum by (machine) (rate(node_network_{direction}_bytes_total{{{both}}}{OVER}))"
