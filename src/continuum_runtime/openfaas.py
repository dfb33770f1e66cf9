"""Speaks with an OpenFaaS gateway from a machine that reaches it.

Started as `python3 -m continuum_runtime.openfaas`, with one JSON object on standard input: the
fields of `Gateway` under `gateway`, and `method`, `path`, `body` (any JSON, null for none) and
`seconds` of one call. It writes one JSON object: `status` and `text` of the answer, or `error` when
there was none.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

PAUSE_SECONDS = 0.02

# A refused call has reached nobody: it may be made again. By iptables, whose rules are there for
# nobody while they are replaced, that takes less than a millisecond at every change of a service.
_REFUSALS_SECONDS = 1.0


class NoAnswer(Exception):
    """The gateway does not answer."""


@dataclass(frozen=True)
class Gateway:
    """Where the gateway is, and who asks. A new connection for each call."""

    host: str
    port: int
    user: str
    password: str

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        seconds: float,
    ) -> tuple[int, bytes]:
        """Status and content of the answer to a call of the API; one that is refused is made again.

        Raises:
            NoAnswer: there was none within so many seconds, or calls are refused for a second.
        """
        known = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {known}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        refusals_end = time.monotonic() + _REFUSALS_SECONDS
        while True:
            try:
                return self._exchange(method, path, content, headers, seconds)
            except NoAnswer as error:
                refused = isinstance(error.__cause__, ConnectionRefusedError)
                if not refused or time.monotonic() > refusals_end:
                    raise
            time.sleep(PAUSE_SECONDS)

    def invoke(self, name: str, content: bytes, *, seconds: float) -> tuple[int, bytes]:
        """Status and content of a function's answer.

        Raises:
            NoAnswer: there was none within so many seconds.
        """
        path = f"/function/{quote(name, safe='')}"
        return self._exchange("POST", path, content, {}, seconds)

    def _exchange(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: dict[str, str],
        seconds: float,
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=max(0.001, seconds))
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()


class TooLong(Exception):
    """Something did not come about in its time."""


@dataclass(frozen=True)
class Deadline:
    """An end in monotonic time."""

    end: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.end - time.monotonic()

    def pause(self, what: str) -> None:
        """A moment's pause while something is waited for.

        Raises:
            TooLong: the time is up.
        """
        if self.left <= 0:
            raise TooLong(what)
        time.sleep(PAUSE_SECONDS)


def main() -> None:
    """Make the call that standard input describes."""
    asked = json.load(sys.stdin)
    gateway = Gateway(**asked["gateway"])
    try:
        status, content = gateway.call(
            asked["method"], asked["path"], asked["body"], seconds=asked["seconds"]
        )
    except NoAnswer as error:
        told: dict[str, Any] = {"error": str(error)}
    else:
        told = {"status": status, "text": content.decode("utf-8", "replace")}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
