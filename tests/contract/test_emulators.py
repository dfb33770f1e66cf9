"""Our own emulators hold their contract."""

from __future__ import annotations

import pytest

from continuum import native
from continuum.infrastructure.links.netem import Netem
from continuum.infrastructure.links.nfqueue import Nfqueue

# Before it is imported, so that what fails in it shows its values.
pytest.register_assert_rewrite("continuum.testing.emulator")
from continuum.testing.emulator import EmulatorContract  # noqa: E402

OF_THE_PROGRAM = frozenset(
    {
        "test_in_force_is_what_was_asked_for",
        "test_links_are_as_asked_for",
        "test_packets_keep_their_order",
        "test_losses_are_of_frames",
    }
)

pytestmark = [pytest.mark.e2e, pytest.mark.measures, pytest.mark.quiet]


class TestNetem(EmulatorContract):
    emulator_type = Netem


class TestNfqueue(EmulatorContract):
    emulator_type = Nfqueue


class TestNfqueueInPython(EmulatorContract):
    """The same without a compiler, where it depends on the program."""

    emulator_type = Nfqueue

    @pytest.fixture(autouse=True)
    def _no_compiler(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.name not in OF_THE_PROGRAM:
            pytest.skip("the same rules for either program")
        monkeypatch.setattr(native, "program", lambda _: None)
