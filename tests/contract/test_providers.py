"""Our own providers hold their contract."""

from __future__ import annotations

import pytest

from continuum.infrastructure.providers.fake import Fake
from continuum.infrastructure.providers.lxc import Lxc
from continuum.testing.provider import ProviderContract


class TestFake(ProviderContract):
    kind = Fake


@pytest.mark.e2e
class TestLxc(ProviderContract):
    kind = Lxc
