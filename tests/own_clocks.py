"""A provider whose containers stand for machines with clocks of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from continuum.infrastructure.providers.lxc import Lxc

NAME = "own_clocks"


class OwnClocks(Lxc):
    """Containers, taken for machines that do not share a clock: so the true offset is 0."""

    name: ClassVar[str] = NAME
    capabilities = replace(Lxc.capabilities, one_clock=False)
