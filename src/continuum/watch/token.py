"""A token that whoever asks a page of ours must show: all users of a host share its loopback.

It is in the address that the person gets on the terminal, as the first part of the path. A browser
is sent on to the plain address with a cookie; a program may put the address before every path.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Self

from continuum import folders

_VALUE = re.compile(r"[A-Za-z0-9_-]{32,}")

REFUSAL = (
    b"This page is for whoever started it: open the whole address that the terminal shows, with "
    b"its token.\n"
)


@dataclass(frozen=True)
class Token:
    """One server's token; `port` tells its cookie from that of another on the same host."""

    port: int
    value: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @classmethod
    def kept(cls, port: int, path: Path) -> Self:
        """The token in a file of the person's own, made where there is none: so a page that is
        open goes on with the next server. A fresh one where no file can be kept.
        """
        try:
            value = path.read_text("ascii").strip()
            mode, owner = path.stat().st_mode, path.stat().st_uid
            private = not mode & 0o077 and owner in {0, os.geteuid(), (folders.caller() or (0,))[0]}
        except (OSError, ValueError):
            value, private = "", False
        if private and _VALUE.fullmatch(value):
            return cls(port, value)
        fresh = cls(port)
        with suppress(OSError):
            folders.write_file(path, f"{fresh.value}\n", folders.PRIVATE_FILE)
        return fresh

    @property
    def cookie(self) -> str:
        """The cookie's name."""
        return f"continuum-{self.port}"

    def set_cookie(self) -> str:
        """The header's value that gives a browser its cookie."""
        return f"{self.cookie}={self.value}; Path=/; HttpOnly; SameSite=Strict"

    def without(self, path: str) -> str | None:
        """The path behind the token, where it begins with it; else None."""
        _, first, *rest = path.split("/", 2) if path.startswith("/") else ("", "")
        first, mark, query = first.partition("?")
        if not self._fits(first):
            return None
        # Two slashes would lead a browser to another host.
        return f"/{rest[0].lstrip('/') if rest else ''}{mark}{query}"

    def is_in(self, cookies: str) -> bool:
        """Tell whether the value of a header `Cookie` holds it."""
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return False
        return found is not None and self._fits(found.value)

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.value.encode())


def wants_page(headers: Mapping[str, str]) -> bool:
    """Tell whether it is a browser that asks for a page, and may be sent on; names in lower case."""
    return "text/html" in headers.get("accept", "")
