"""How a source says that it cannot supply something, and the store that no source can."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from continuum.errors import NotPossibleHere


class Unavailable(Exception):
    """A source cannot supply an artifact, and why; the next source is tried.

    `programs` would help, by the Debian package that each is in.
    """

    def __init__(self, reason: str, *, programs: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.programs = programs or {}


class NotToBeHad(NotPossibleHere):
    """No source can supply some artifacts here; with `programs` one could, perhaps."""

    programs: Mapping[str, str] = MappingProxyType({})
