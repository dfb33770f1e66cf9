"""Provider `ssh`: machines that exist already, as cloud instances, or nodes of a testbed."""

from continuum.infrastructure.providers.ssh.provider import Ssh

__all__ = ["Ssh"]
