"""How long a packet takes from this host to a machine on another, before any link is emulated.

Measured by ARP probes on the bridge: they take the very path that the machines' packets take, need
no address of this host's, and no emulator holds them back.
"""

from __future__ import annotations

import ipaddress
import socket
import statistics
import struct
import time
from pathlib import Path

PROBES = 25
_ARP = 0x0806
_PATIENCE = 1.0
_MOST_LOST = 5
_BROADCAST = b"\xff" * 6
_QUESTION = struct.Struct("!HHBBH6s4s6s4s")


def one_way_ms(bridge: str, address: str, *, apart: float = 0.0) -> float | None:
    """Half the median round trip in ms to the machine of that address; None without answers.

    Args:
        bridge: on this host, which the machine's network is joined to.
        address: of a machine that runs.
        apart: seconds from an answer to the next probe.
    """
    mac = bytes.fromhex(
        Path("/sys/class/net", bridge, "address").read_text().strip().replace(":", "")
    )
    target = ipaddress.IPv4Address(address).packed
    question = _BROADCAST + mac + struct.pack("!H", _ARP)
    question += _QUESTION.pack(1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), target)
    trips: list[float] = []
    lost = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as wire:
        wire.bind((bridge, _ARP))
        # The first one also finds the way: bridges learn by it.
        while len(trips) < PROBES + 1 and lost < _MOST_LOST:
            time.sleep(apart)
            began = time.perf_counter()
            wire.send(question)
            ended = _answer(wire, target, began + _PATIENCE)
            if ended is None:
                lost += 1
            else:
                trips.append((ended - began) * 1e3)
    return statistics.median(trips[1:]) / 2 if len(trips) > PROBES // 2 else None


def _answer(wire: socket.socket, target: bytes, until: float) -> float | None:
    """When the target's answer came; None when it did not."""
    while (left := until - time.perf_counter()) > 0:
        wire.settimeout(left)
        try:
            frame = wire.recv(128)
        except TimeoutError:
            return None
        # An answer (2), from the target.
        if len(frame) >= 42 and frame[20:22] == b"\x00\x02" and frame[28:32] == target:
            return time.perf_counter()
    return None
