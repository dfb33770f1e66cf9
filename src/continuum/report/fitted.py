"""A table for a terminal that leaves columns out rather than cut a figure off.

A figure that lost its last digits is another figure, so that none may ever be shortened, however
narrow the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

_GAP = 2
_READABLE = 16
"""Columns below which words are not folded, when they are that long."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        title: in the head of the table.
        words: whether it may fold between any two words; else only behind a comma.
        right: whether it is aligned to the right, as figures are.
        dropped: when it is left out for want of room: the highest goes first, 0 never.
    """

    title: str
    words: bool = False
    right: bool = True
    dropped: int = 0


def label(title: str, dropped: int = 0) -> Column:
    """A column of words."""
    return Column(title, words=True, right=False, dropped=dropped)


@dataclass
class Fitted:
    """The table; `elsewhere` says where all of its columns are shown."""

    columns: Sequence[Column]
    elsewhere: str
    rows: list[list[Text]] = field(default_factory=list)

    def add(self, *cells: str | Text) -> None:
        """Add a row. Words are shown as they are: rich's mark-up in them has no effect."""
        from rich.text import Text  # noqa: PLC0415  slow to import

        self.rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what there is room for."""
        from rich.text import Text  # noqa: PLC0415

        shown = self._shown(options.max_width)
        yield self._table(shown, self._widths(shown, options.max_width))
        titles = [
            column.title
            for place, column in enumerate(self.columns)
            if column.title and place not in shown
        ]
        if titles:
            yield Text(f"not shown: {', '.join(titles)}; {self.elsewhere}", "dim")

    def _shown(self, room: int) -> list[int]:
        """The places of the columns that are drawn."""
        shown = list(range(len(self.columns)))
        while _sum(self._least[place] for place in shown) > room:
            last = max(shown, key=lambda place: self.columns[place].dropped)
            if not self.columns[last].dropped:
                break
            shown.remove(last)
        return shown

    def _widths(self, shown: Sequence[int], room: int) -> list[int]:
        """What each column has, its padding left out. Words are first to get what is left."""
        fits = _sum(self._least[place] for place in shown) <= room
        least = self._least if fits else self._tightest
        widths = {place: least[place] for place in shown}
        spare = room - _sum(widths.values())
        for place in sorted(shown, key=lambda place: not self.columns[place].words):
            more = max(0, min(spare, self._whole[place] - widths[place]))
            widths[place] += more
            spare -= more
        return [widths[place] for place in shown]

    @cached_property
    def _whole(self) -> list[int]:
        """The width of each column when nothing is folded."""
        return [
            max(_width(column.title), *(_width(cell) for cell in self._cells(place)), 1)
            for place, column in enumerate(self.columns)
        ]

    @cached_property
    def _least(self) -> list[int]:
        """The width below which words would be hard to read, or more would be lost."""
        return [
            max(tightest, min(whole, _READABLE)) if column.words else tightest
            for column, whole, tightest in zip(
                self.columns, self._whole, self._tightest, strict=True
            )
        ]

    @cached_property
    def _tightest(self) -> list[int]:
        """The width below which a part of a cell would be cut in two."""
        return [
            max(
                (
                    _width(part)
                    for part in (
                        *column.title.split(),
                        *(part for cell in self._cells(place) for part in _parts(cell, column)),
                    )
                ),
                default=1,
            )
            for place, column in enumerate(self.columns)
        ]

    def _cells(self, place: int) -> list[str]:
        return [row[place].plain for row in self.rows]

    def _table(self, shown: Sequence[int], widths: Sequence[int]) -> Table:
        from rich import box  # noqa: PLC0415
        from rich.table import Table as NewTable  # noqa: PLC0415

        made = NewTable(
            box=box.SIMPLE_HEAD,
            # The box itself has the other column of the gap.
            padding=(0, _GAP - 1, 0, 0),
            pad_edge=False,
            show_edge=False,
            show_header=any(self.columns[place].title for place in shown),
            # Told, so that rich takes no width away where the terminal is narrower still.
            width=_sum(widths),
        )
        for place, width in zip(shown, widths, strict=True):
            column = self.columns[place]
            # What rich does not fold it cuts.
            made.add_column(
                column.title,
                justify="right" if column.right else "left",
                width=width,
                overflow="fold",
            )
        for row in self.rows:
            made.add_row(
                *(
                    _folded(row[place], self.columns[place], width)
                    for place, width in zip(shown, widths, strict=True)
                )
            )
        return made


def _sum(widths: Iterable[int]) -> int:
    """The width of columns side by side."""
    widths = list(widths)
    return sum(widths) + _GAP * (len(widths) - 1)


def _width(text: str) -> int:
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)


def _parts(cell: str, column: Column) -> list[str]:
    """What of a cell stays on one line."""
    if column.words:
        return cell.split()
    parts = cell.split(", ")
    return [*(f"{part}," for part in parts[:-1]), parts[-1]]


def _folded(cell: Text, column: Column, width: int) -> Text:
    from rich.text import Text  # noqa: PLC0415

    if column.words or _width(cell.plain) <= width:
        return cell
    return Text("\n".join(_parts(cell.plain, column)), cell.style)
