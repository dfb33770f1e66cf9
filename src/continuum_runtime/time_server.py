"""Tells machines what this host's clock says, in the Simple Network Time Protocol (RFC 4330).

    python3 -m continuum_runtime.time_server IDENTITY ADDRESS PORT

Sets no clock and asks no other. IDENTITY says whose it is, for whoever looks for it. Runs until it
is stopped, or until this host has not had that address for a while.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time

from continuum_runtime.clock_echo import listening, receive

_PACKET = struct.Struct("!BBbbII4sQQQQ")
_CLIENT, _SERVER = 3, 4
_STRATUM = 10
"""Nobody says how right this host's clock is: it is only the one that all machines share."""
_PRECISION = -20
"""The clock is read to about a microsecond: 2 to the power of this, in seconds."""
_SINCE_1900 = 2_208_988_800
LOOK_INTERVAL = 60.0
"""Seconds without a question after which the address is looked for."""


def stamp(nanoseconds: int) -> int:
    """Unix time as NTP writes it: seconds since 1900, in 64 bits of which 32 are the fraction."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return ((seconds + _SINCE_1900 << 32) | (rest << 32) // 1_000_000_000) & (2**64 - 1)


def answer(question: bytes, arrived: int, now: int) -> bytes | None:
    """What a client is told; None when it is no client's question. Times in Unix ns."""
    if len(question) < _PACKET.size:
        return None
    first, _, poll, *_, sent = _PACKET.unpack_from(question)
    version, mode = first >> 3 & 7, first & 7
    if mode != _CLIENT or not 1 <= version <= 4:
        return None
    return _PACKET.pack(
        version << 3 | _SERVER,
        _STRATUM,
        poll,
        _PRECISION,
        0,
        0,
        b"HOST",
        stamp(arrived - 1_000_000_000),
        sent,
        stamp(arrived),
        stamp(now),
    )


def is_here(address: str) -> bool:
    """Whether this host has that address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        try:
            own.bind((address, 0))
        except OSError:
            return False
        return True


def main(arguments: list[str]) -> None:
    """Answer as long as there is a network to answer on."""
    _, address, port = arguments
    with listening(address, int(port)) as own:
        own.settimeout(LOOK_INTERVAL)
        while True:
            try:
                question, arrived, source = receive(own)
            except TimeoutError:
                if is_here(address):
                    continue
                return
            told = answer(question, arrived, time.time_ns())
            if told is not None:
                # Who asked may be gone.
                with contextlib.suppress(OSError):
                    own.sendto(told, source)


if __name__ == "__main__":
    main(sys.argv[1:])
