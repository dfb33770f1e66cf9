"""Our own providers hold their contract."""

from __future__ import annotations

import os

import pytest

from continuum.infrastructure.providers.fake import Fake
from continuum.infrastructure.providers.libvirt import Libvirt
from continuum.infrastructure.providers.lxc import Lxc
from continuum.testing.provider import ProviderContract


class TestFake(ProviderContract):
    kind = Fake


@pytest.mark.e2e
class TestLxc(ProviderContract):
    kind = Lxc


@pytest.mark.e2e
@pytest.mark.skipif(
    "CONTINUUM_TEST_VIRTUAL_MACHINES" not in os.environ,
    reason="every test boots machines: 10 minutes and more where the host has no KVM; "
    "CONTINUUM_TEST_VIRTUAL_MACHINES=1 runs them, tests/e2e/test_libvirt.py runs always",
)
class TestLibvirt(ProviderContract):
    kind = Libvirt
