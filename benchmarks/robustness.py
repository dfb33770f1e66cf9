"""Give the command line thousands of broken inputs, and count what it does with them.

    benchmarks/run robustness [--seed N] [--count N] [--part I/N] [--show KIND:NUMBER] [KIND ...]

Prints one row for each kind of input: how many were tried, and what was wrong; then commands that are
killed at random moments (`kills`), and ten of one name at once (`mixes`). Exit 1 where anything was
wrong. `--part 2/5` tries the second of five equal parts, `--show` makes one input again and tells
it. Needs no machines and no root; archives with machine images are refused without it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "src")]

from benchmarks.shared import robustness_table  # noqa: E402  path set above


def main(arguments: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks/run robustness", description=__doc__)
    parser.add_argument("--seed", type=int, default=robustness_table.SEED)
    parser.add_argument("--count", type=int, default=robustness_table.COUNT, help="inputs in all")
    parser.add_argument("--part", default="1/1", metavar="I/N")
    parser.add_argument("--show", metavar="KIND:NUMBER")
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    given = parser.parse_args(arguments)
    known = [*robustness_table.KINDS, *robustness_table.SERIES]
    unknown = sorted(set(given.kinds) - set(known))
    if unknown:
        parser.error(f"no kind {', '.join(unknown)}; there are: {', '.join(known)}")
    if given.show:
        kind, _, number = given.show.partition(":")
        robustness_table.show(kind, int(number), given.seed)
        return 0
    part, parts = (int(each) for each in given.part.split("/"))
    kinds = [each for each in given.kinds or known if each in robustness_table.KINDS]
    series = [each for each in given.kinds or known if each in robustness_table.SERIES]
    rows = robustness_table.rows(given.seed, given.count, kinds, part=part, parts=parts)
    right = not kinds or robustness_table.print_rows(rows, given.seed)
    more = robustness_table.print_series(given.seed, given.count, series, part=part, parts=parts)
    return 0 if right and more else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
