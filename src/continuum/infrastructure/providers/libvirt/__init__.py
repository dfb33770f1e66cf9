"""Provider `libvirt`: machines as virtual machines of QEMU."""

from continuum.infrastructure.providers.libvirt.provider import Libvirt

__all__ = ["Libvirt"]
