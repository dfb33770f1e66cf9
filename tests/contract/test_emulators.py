"""Our own emulators hold their contract."""

from __future__ import annotations

import pytest

from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue
from continuum.testing.emulator import EmulatorContract

pytestmark = [pytest.mark.e2e, pytest.mark.measures, pytest.mark.quiet]


class TestNetem(EmulatorContract):
    emulator_type = Netem


class TestNfqueue(EmulatorContract):
    emulator_type = Nfqueue
