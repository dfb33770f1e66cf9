"""What all tests share: folders of their own, and no colours or sudo from whoever runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from xdist.remote import Producer

import left_behind
import side_by_side
from lane_order import LaneOrder

_FOREIGN = ("SUDO_UID", "SUDO_GID", "SUDO_USER", "NO_COLOR", "COLUMNS", "PYTHONPYCACHEPREFIX")


@pytest.fixture(autouse=True)
def _own_folders(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """State, and but for tests on real machines the cache, lie in the test's own folder."""
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    for name in list(os.environ):
        if name.startswith("CONTINUUM_SET__"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    if request.node.get_closest_marker("e2e") is None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def pytest_configure(config: pytest.Config) -> None:
    """Where pytest runs tests side by side, each of its workers is a lane."""
    # Jobs in the background of a script ignore it, and with them all that tests start and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput") and not config.option.collectonly and os.geteuid() == 0:
        left_behind.take_down()
    side_by_side.begin(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LaneOrder | None:
    """The order of files in lanes."""
    return LaneOrder(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch what clusters are made of before the first test, whose time is limited."""
    wanted = any(item.get_closest_marker("cluster") is not None for item in session.items)
    if not wanted or session.config.option.collectonly or os.geteuid() != 0:
        return
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") != "gw0":
        return  # No test begins before the first worker is through.
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        # A failure is told by the tests that need it.
        subprocess.run((sys.executable, "-m", "continuum", "artifacts", "fetch"), check=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("e2e") is not None:
            item.add_marker(pytest.mark.skip(reason="real machines need root"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say above the closing line which of the checks before the tests failed."""
    failed = os.environ.get("CONTINUUM_STATIC_CHECKS_FAILED", "")
    if failed:
        terminalreporter.section("checks before the tests", red=True)
        terminalreporter.line(f"FAILED {failed}: see the top of the output", red=True)
