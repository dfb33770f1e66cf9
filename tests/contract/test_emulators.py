"""Our own emulators hold their contract."""

from __future__ import annotations

import pytest

from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.testing.emulator import EmulatorContract

pytestmark = [pytest.mark.e2e, pytest.mark.measures]

for _test in (
    EmulatorContract.test_links_are_as_asked_for,
    EmulatorContract.test_the_most_specific_link_counts,
):
    pytest.mark.quiet(_test)


class TestNetem(EmulatorContract):
    emulator_type = Netem


class TestNfqueue(EmulatorContract):
    emulator_type = Nfqueue
