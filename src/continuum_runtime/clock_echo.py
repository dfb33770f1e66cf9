"""Tells what this machine's clock says, to whoever measures how far it is from theirs.

    python3 -m continuum_runtime.clock_echo TOKEN

Answers each line on standard input by one line: the time in ns at which it was read, the time at
which the answer was written, and the number of a UDP port. A datagram that comes to that port, and
begins with the 16 bytes that TOKEN is the hexadecimal of, is answered as `REPLY` says. Ends with its
standard input.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time

SO_TIMESTAMPNS = 35

REPLY = struct.Struct("!16sqqq")
"""Token, a number that is given back, and the times in ns of the arrival and of the answer."""

_TIME = struct.Struct("@qq")


def listening(address: str = "", number: int = 0) -> socket.socket:
    """A UDP socket that knows when the kernel took each datagram, whoever reads it how late."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.bind((address, number))
    return made


def receive(port: socket.socket) -> tuple[bytes, int, tuple[str, int]]:
    """A datagram, when it arrived in Unix time in ns, and where it came from."""
    data, ancillary, _, source = port.recvmsg(256, 128)
    arrived = time.time_ns()
    for level, what, value in ancillary:
        if level == socket.SOL_SOCKET and what == SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIME.unpack(value)
            arrived = seconds * 1_000_000_000 + nanoseconds
    return data, arrived, source


def _answer(port: socket.socket, token: bytes) -> None:
    data, arrived, source = receive(port)
    # No more goes back than came, and only to who knows the token.
    if len(data) == REPLY.size and data[:16] == token:
        _, number, _, _ = REPLY.unpack(data)
        port.sendto(REPLY.pack(token, number, arrived, time.time_ns()), source)


def main(arguments: list[str]) -> int:
    """Answer until standard input ends."""
    token = bytes.fromhex(arguments[0])
    with listening() as port:
        number = port.getsockname()[1]
        while True:
            ready, _, _ = select.select([sys.stdin.fileno(), port.fileno()], [], [])
            if sys.stdin.fileno() in ready:
                read = time.time_ns()
                if not os.read(sys.stdin.fileno(), 256):
                    return 0
                os.write(sys.stdout.fileno(), b"%d %d %d\n" % (read, time.time_ns(), number))
            if port.fileno() in ready:
                _answer(port, token)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
