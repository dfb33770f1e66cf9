"""Every promise of SECURITY.md names a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    tables = "\n".join(rows).split("| promise | tried by |\n")[1:]
    promises = [row for table in tables for row in table.splitlines() if not row.startswith("|--")]
    promises = [row for row in promises if not row.startswith("| who ")]
    assert len(promises) > 15
    for row in promises:
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", row), row


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_named_test_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
