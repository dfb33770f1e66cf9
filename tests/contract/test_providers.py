"""Our own providers hold their contract."""

from __future__ import annotations

import pytest

from continuum.infrastructure.providers.fake import Fake
from continuum.infrastructure.providers.libvirt import Libvirt
from continuum.infrastructure.providers.lxc import Lxc
from continuum.testing.provider import ProviderContract
from virtual_machines import only_where_asked


class TestFake(ProviderContract):
    kind = Fake


@pytest.mark.e2e
class TestLxc(ProviderContract):
    kind = Lxc


@pytest.mark.e2e
@only_where_asked("every test boots machines: 10 minutes and more", "tests/e2e/test_libvirt.py")
class TestLibvirt(ProviderContract):
    kind = Libvirt
