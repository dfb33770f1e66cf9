"""Emulators on a kernel that has everything: Debian 13's, as a program of this host.

The tests of netem's contract and of a laboratory run in it; each of them is a test here, with that one's outcome.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import netem_laboratory
import user_mode_linux
from continuum.testing.emulator import EmulatorContract
from side_by_side import alone

pytestmark = [pytest.mark.e2e, pytest.mark.measures]

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 300.0
CONTRACT = "tests/contract/test_emulators.py"
LABORATORY = "tests/netem_laboratory.py"
BY_THE_LABORATORY = "test_links_are_as_asked_for"
"""It asks for means and deviations of many packets, which this kernel's programs are too late for."""

TESTS = sorted(
    name
    for kind in (EmulatorContract, netem_laboratory)
    for name in vars(kind)
    if name.startswith("test_") and name != BY_THE_LABORATORY
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Outcome of each of the tests, by name: nothing, or what was said."""
    shared = tmp_path_factory.mktemp("kernel")
    report = f"{user_mode_linux.SHARED}/report.xml"
    program = (
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "gentle_links"),
        *("-c", "pyproject.toml", f"--junitxml={report}", CONTRACT, LABORATORY),
        *("-k", f"TestNetem and not {BY_THE_LABORATORY} or {Path(LABORATORY).stem}"),
    )
    environment = {
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with alone():
        ended = user_mode_linux.run(program, shared, LIMIT, environment)
    written = shared / "report.xml"
    assert written.exists(), ended.output
    root = ET.parse(written).getroot()  # noqa: S314  our own
    found = {}
    for case in root.iter("testcase"):
        said = [each for each in case if each.tag in ("failure", "error", "skipped")]
        found[case.attrib["name"]] = "\n".join(
            f"{each.tag}: {each.attrib.get('message', '')}\n{each.text or ''}" for each in said
        )
    return found


@pytest.mark.parametrize("test", TESTS)
def test_netem_holds_its_contract(outcomes: Mapping[str, str], test: str) -> None:
    if outcomes[test]:
        pytest.fail(outcomes[test], pytrace=False)
