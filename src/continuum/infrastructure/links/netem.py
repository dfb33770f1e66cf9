"""Placeholder while the emulator is written."""
from continuum.infrastructure.links.nfqueue import Nfqueue as Netem  # noqa: F401
