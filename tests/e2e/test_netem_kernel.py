"""Emulators on a kernel that has everything: Debian 13's, as a program of this host.

Their contract's tests run in it; each of them is a test here, with that one's outcome.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import user_mode_linux
from continuum.testing.emulator import EmulatorContract

pytestmark = [pytest.mark.e2e, pytest.mark.measures]

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 300.0
TESTS = sorted(name for name in vars(EmulatorContract) if name.startswith("test_"))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What became of each of the contract's tests, by name: nothing, or what was said."""
    shared = tmp_path_factory.mktemp("kernel")
    report = f"{user_mode_linux.SHARED}/report.xml"
    program = (
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "gentle_links"),
        *(
            "-c",
            "pyproject.toml",
            f"--junitxml={report}",
            "tests/contract/test_emulators.py",
            "-k",
            "TestNetem",
        ),
    )
    environment = {
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
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
