"""Test by simulation whether figures hold what they say: one table after the other, in minutes.

    benchmarks/run trust [TABLE ...]

Needs no machines and no root. Exit 1 when a figure lies outside what is asked of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]

from benchmarks.shared import coverage_table, gate  # noqa: E402  path set above

TABLES: dict[str, Callable[[], bool]] = {
    "coverage": coverage_table.show,
    "gate": gate.show,
}
"""Each prints itself, and says whether it is as asked."""


def main(names: list[str]) -> int:
    """Print the tables of these names, or all."""
    unknown = sorted(set(names) - set(TABLES))
    if unknown:
        print(f"no table {', '.join(unknown)}; there are: {', '.join(TABLES)}", file=sys.stderr)
        return 2
    held = []
    for name in names or TABLES:
        began = time.monotonic()
        held.append(TABLES[name]())
        print(f"({time.monotonic() - began:.0f} s)\n", flush=True)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
