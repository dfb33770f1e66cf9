"""The few messages of nfnetlink_queue that the delay emulator speaks, as bytes.

Layouts: `linux/netlink.h`, `linux/netfilter/nfnetlink.h`, `linux/netfilter/nfnetlink_queue.h`.
Numbers of netlink are in the host's byte order, those of nfnetlink_queue in the network's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

NETLINK_NETFILTER = 12
SOL_NETLINK = 270
NETLINK_NO_ENOBUFS = 5

MESSAGE_PACKET = 3 << 8
MESSAGE_VERDICT = 3 << 8 | 1
MESSAGE_CONFIG = 3 << 8 | 2
MESSAGE_ERROR = 2

FLAG_REQUEST = 1
FLAG_ACKNOWLEDGE = 4

ATTRIBUTE_PACKET_HEADER = 1
ATTRIBUTE_VERDICT_HEADER = 2
ATTRIBUTE_TIMESTAMP = 4
ATTRIBUTE_PAYLOAD = 10

CONFIG_COMMAND = 1
CONFIG_PARAMETERS = 2
CONFIG_MAXIMUM_LENGTH = 3
CONFIG_MASK = 4
CONFIG_FLAGS = 5

COMMAND_BIND = 1
COPY_PACKET = 2
GSO_WHOLE = 1 << 2
"""Flag: large segmentation-offload packets come whole, instead of being cut up in software."""

DROP = 0
ACCEPT = 1

IPV4_HEADER = 20
COPIED = 64
"""Bytes copied of each packet: an IPv4 header with all options, and ports."""

ETHERNET_HEADER = 14

_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_PAYLOAD_START = _HEADER.size + _FAMILY.size
_ACKNOWLEDGEMENT = struct.Struct("=IHHIIi")

KIND = slice(4, 6)
"""Where the kind of a message stands."""

KIND_PACKET = struct.pack("=H", MESSAGE_PACKET)

PACKET_NUMBER = slice(_PAYLOAD_START + 4, _PAYLOAD_START + 8)
"""Where a packet's number stands in its message: the packet header is always the first."""

QUEUE_NUMBER = slice(_HEADER.size + 2, _HEADER.size + 4)
"""Where the queue's number stands in a packet's message."""


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(padding)


def message(kind: int, queue: int, body: bytes, *, flags: int = 0) -> bytes:
    """One whole message about a queue."""
    length = _PAYLOAD_START + len(body)
    return _HEADER.pack(length, kind, FLAG_REQUEST | flags, 0, 0) + _FAMILY.pack(0, 0, queue) + body


def bind(queue: int) -> bytes:
    """Ask for the packets of a queue."""
    body = attribute(CONFIG_COMMAND, struct.pack("!BBH", COMMAND_BIND, 0, 0))
    return message(MESSAGE_CONFIG, queue, body, flags=FLAG_ACKNOWLEDGE)


def configure(queue: int, *, maximum_length: int, whole: bool) -> bytes:
    """Have the beginning of each packet, and let `maximum_length` packets be held.

    Unless they come `whole`, the kernel cuts large packets into frames.
    """
    body = (
        attribute(CONFIG_PARAMETERS, struct.pack("!IB", COPIED, COPY_PACKET))
        + attribute(CONFIG_MAXIMUM_LENGTH, struct.pack("!I", maximum_length))
        + attribute(CONFIG_MASK, struct.pack("!I", GSO_WHOLE))
        + attribute(CONFIG_FLAGS, struct.pack("!I", GSO_WHOLE if whole else 0))
    )
    return message(MESSAGE_CONFIG, queue, body, flags=FLAG_ACKNOWLEDGE)


def acknowledgement(data: bytes) -> int | None:
    """The error number of an acknowledgement, 0 for success; None for another message."""
    if len(data) < _ACKNOWLEDGEMENT.size:
        return None
    _, kind, _, _, _, error = _ACKNOWLEDGEMENT.unpack_from(data)
    return -error if kind == MESSAGE_ERROR else None


def verdict_prefix(queue: int, verdict: int) -> bytes:
    """A verdict's message without its last four bytes, which are the packet's number."""
    body = attribute(ATTRIBUTE_VERDICT_HEADER, struct.pack("!II", verdict, 0))
    return message(MESSAGE_VERDICT, queue, body)[:-4]


@dataclass(frozen=True)
class Layout:
    """The positions of things in a packet's message.

    Attributes:
        timestamp: offset of the arrival time (seconds and microseconds), 0 when it has none.
        header, end: offsets of the packet's IPv4 header, and of what was copied no more; 0 when it
            has none.
    """

    timestamp: int
    header: int
    end: int


def layout(data: bytes) -> Layout:
    """Find the attributes of a packet's message."""
    timestamp = header = end = 0
    at = _PAYLOAD_START
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            break
        if kind == ATTRIBUTE_TIMESTAMP:
            timestamp = at + _ATTRIBUTE.size
        elif kind == ATTRIBUTE_PAYLOAD and length >= _ATTRIBUTE.size + IPV4_HEADER:
            header, end = at + _ATTRIBUTE.size, at + length
        at += length + -length % 4
    return Layout(timestamp, header, end)
