"""Machines as LXC system containers on this host."""

from continuum.infrastructure.providers.lxc.provider import Lxc

__all__ = ["Lxc"]
