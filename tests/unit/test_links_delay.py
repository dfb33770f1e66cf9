"""The user-space emulator's arithmetic and its messages."""

from __future__ import annotations

import signal
import statistics
import struct
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum_runtime import delay_emulator
from continuum_runtime import delay_emulator_codec as codec
from continuum_runtime.delay_emulator import Queue

MS = 1_000_000
SOURCE = bytes((10, 0, 0, 1))


def queue(
    delay: float = 0.0,
    jitter: float = 0.0,
    loss: float = 0.0,
    rate: float | None = None,
    seed: str = "1",
) -> Queue:
    settings = {
        "queue": 1003,
        "delay_ms": delay,
        "jitter_ms": jitter,
        "loss_percent": loss,
        "rate_mbit": rate,
    }
    return Queue.of(settings, seed)


@given(
    delay=st.floats(0, 100),
    jitter=st.floats(0, 100),
    gaps=st.lists(st.integers(0, 50 * MS), min_size=1, max_size=50),
)
def test_no_packet_is_early_or_overtakes(delay: float, jitter: float, gaps: list[int]) -> None:
    path = queue(delay, jitter)
    now, before = 0, 0
    for gap in gaps:
        now += gap
        due = path.release(SOURCE, 100, now)
        assert due is not None
        assert due >= now
        assert due >= before
        before = due


def test_without_jitter_the_delay_is_exact() -> None:
    assert queue(delay=7.5).release(SOURCE, 1500, 1000) == 1000 + 7_500_000


def test_a_packet_arrives_with_its_last_bit() -> None:
    # A frame of 1000 bytes takes 1 ms at 8 Mbit/s.
    assert queue(delay=2, rate=8.0).release(SOURCE, 986, 0) == 3 * MS


def test_senders_do_not_wait_for_one_another() -> None:
    path = queue(delay=50, jitter=20)
    for number in range(200):
        path.release(bytes((10, 0, 0, number)), 100, 0)
    assert len(set(path.released.values())) > 150


def test_jitter_is_normal_around_the_delay() -> None:
    path = queue(delay=45, jitter=5)
    waits = [(path.release(SOURCE, 100, at) or 0) - at for at in range(0, 2000 * 10**9, 10**9)]
    assert statistics.mean(waits) / MS == pytest.approx(45, abs=0.6)
    assert statistics.stdev(waits) / MS == pytest.approx(5, abs=0.5)


def test_losses_are_as_probable_as_asked_for() -> None:
    path = queue(loss=10.0)
    lost = sum(path.release(SOURCE, 100, 0) is None for _ in range(5000))
    assert 400 < lost < 600
    assert all(queue(loss=100.0).release(SOURCE, 100, 0) is None for _ in range(10))


def test_equal_seeds_give_equal_delays() -> None:
    def waits(seed: str) -> list[int | None]:
        path = queue(delay=10, jitter=2, seed=seed)
        return [path.release(SOURCE, 100, at * 10**9) for at in range(20)]

    assert waits("a") == waits("a")
    assert waits("a") != waits("b")


@pytest.mark.skipif(sys.byteorder != "little", reason="the bytes below are a little-endian host's")
def test_messages_are_those_of_the_kernel_headers() -> None:
    assert codec.bind(1003).hex() == (
        "1c000000"
        "0203"
        "0500"
        "00000000"
        "00000000"  # length, config, request with answer
        "00"
        "00"
        "03eb"  # any family, version 0, queue 1003
        "08000100"
        "01000000"  # command: bind
    )
    assert codec.configure(1, copy=20, maximum_length=1024).hex() == (
        "38000000" "0203" "0500" "00000000" "00000000" "00" "00" "0001"
        "09000200" "0000001402" "000000"  # parameters: 20 bytes, copy packets
        "08000300" "00000400"  # at most 1024
        "08000400" "00000004" "08000500" "00000004"  # mask and flags: large packets whole
    )  # fmt: skip
    number = bytes.fromhex("00000007")
    assert (codec.verdict_prefix(1003, codec.ACCEPT) + number).hex() == (
        "20000000" "0103" "0100" "00000000" "00000000" "00" "00" "03eb"
        "0c000200" "00000001" "00000007"
    )  # fmt: skip


def packet(*attributes: bytes, number: int = 7) -> bytes:
    header = codec.attribute(codec.ATTRIBUTE_PACKET_HEADER, struct.pack("!IHB", number, 0x800, 0))
    return codec.message(codec.MESSAGE_PACKET, 1003, header + b"".join(attributes))


def test_packets_are_understood_whatever_stands_between() -> None:
    time = codec.attribute(codec.ATTRIBUTE_TIMESTAMP, struct.pack("!QQ", 5, 6))
    payload = codec.attribute(codec.ATTRIBUTE_PAYLOAD, bytes(range(20)))
    device = codec.attribute(5, bytes(4))
    for attributes in ((time, payload), (device, payload), (device, time, device, payload)):
        data = packet(*attributes)
        found = codec.layout(data)
        assert data[codec.PACKET_NUMBER] == (7).to_bytes(4, "big")
        assert data[codec.QUEUE_NUMBER] == (1003).to_bytes(2, "big")
        assert data[codec.KIND] == codec.KIND_PACKET
        assert data[found.header : found.header + 20] == bytes(range(20))
        if time in attributes:
            assert struct.unpack_from("!QQ", data, found.timestamp) == (5, 6)
        else:
            assert found.timestamp == 0


@given(st.binary(max_size=100))
def test_no_bytes_confuse_the_reader(data: bytes) -> None:
    found = codec.layout(data)
    assert found.header + 20 <= len(data) or found.header == 0 or len(data) < 40
    assert codec.acknowledgement(data) is None or len(data) >= 20


def test_answers_hold_the_error() -> None:
    answer = struct.pack("=IHHIIi", 36, codec.MESSAGE_ERROR, 0, 0, 0, -16) + bytes(16)
    assert codec.acknowledgement(answer) == 16
    assert codec.acknowledgement(packet()) is None


@pytest.fixture
def signals() -> Iterator[None]:
    """What the program does with signals ends with the test."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_wrong_arguments_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert delay_emulator.main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert delay_emulator.main(["00000000", "/nonexistent"]) == 1
    assert "No such file" in capsys.readouterr().err
