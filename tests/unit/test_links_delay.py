"""The user-space emulator's arithmetic and its messages, and that its two programs agree."""

from __future__ import annotations

import dataclasses
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuum import native
from continuum_runtime import delay_emulator, delay_table, jitter
from continuum_runtime import delay_emulator_codec as codec
from continuum_runtime.delay_emulator import Queue

MS = 1_000_000
SOURCE = (10, 0, 0, 1)
UDP, TCP, ICMP = 17, 6, 1


def queue(
    delay: float = 0.0,
    jitter: float = 0.0,
    loss: float = 0.0,
    rate: float | None = None,
    seed: str = "1",
) -> Queue:
    return Queue.of(delay_table.queue(entry(delay, jitter, loss, rate), seed))


def entry(
    delay: float = 0.0,
    jitter: float = 0.0,
    loss: float = 0.0,
    rate: float | None = None,
    number: int = 1003,
) -> dict[str, float | None]:
    return {
        "queue": number,
        "delay_ms": delay,
        "jitter_ms": jitter,
        "loss_percent": loss,
        "rate_mbit": rate,
    }


def ipv4(
    length: int = 100,
    source: Sequence[int] = SOURCE,
    *,
    ports: int = 0x1000_2000,
    protocol: int = UDP,
    fragment: int = 0,
    options: int = 0,
) -> bytes:
    """The beginning of a packet, as the kernel copies it."""
    header = struct.pack(
        "!BBHHHBBH4B4B",
        *(0x45 + options, 0, length, 0, fragment, 64, protocol, 0),
        *source,
        *(10, 0, 0, 9),
    )
    return header + bytes(4 * options) + struct.pack("!I", ports) + bytes(8)


def due(path: Queue, packet: bytes, arrival: int) -> int:
    return path.release(packet, arrival)[0]


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
        found = due(path, ipv4(), now)
        assert found >= now
        assert found >= before
        before = found


def test_without_jitter_the_delay_is_exact() -> None:
    assert due(queue(delay=7.5), ipv4(1500), 1000) == 1000 + 7_500_000


def test_a_packet_arrives_with_its_last_bit() -> None:
    # A frame of 1000 bytes takes 1 ms at 8 Mbit/s.
    assert due(queue(delay=2, rate=8.0), ipv4(986), 0) == 3 * MS


def test_senders_do_not_wait_for_one_another() -> None:
    path = queue(delay=50, jitter=20)
    found = {due(path, ipv4(source=(10, 0, 0, number)), 0) for number in range(200)}
    assert len(found) > 150


def test_order_is_kept_in_each_flow_alone() -> None:
    """A small packet of another flow passes a large one that is still under way."""
    path = queue(delay=2, rate=8.0)
    large = due(path, ipv4(9986), 0)
    assert due(path, ipv4(86), 1) == large
    others = [
        ipv4(86, ports=0x1000_2001),
        ipv4(86, protocol=TCP),
        ipv4(86, (10, 0, 0, 2)),
        ipv4(86, ports=0x1000_2001, options=3),
    ]
    assert [due(path, each, 1) for each in others] == [1 + 2 * MS + 100_000] * len(others)
    # Fragments have no ports but in the first, and go by addresses.
    first = due(path, ipv4(9986, fragment=0x2000), 2)
    assert due(path, ipv4(86, fragment=0x0010, ports=77), 3) == first


def test_flows_that_are_many_take_no_more_memory() -> None:
    path = queue(delay=1)
    for number in range(5000):
        path.release(ipv4(ports=number), number)
    assert len(path.released) <= delay_emulator.FLOWS


@pytest.mark.parametrize("percent", [0.1, 1.0, 20.0])
def test_losses_are_as_probable_as_asked_for(percent: float) -> None:
    path = queue(loss=percent)
    count = round(100 * 500 / percent)
    lost = sum(path.release(ipv4(), 0)[1] for _ in range(min(count, 100_000)))
    expected = min(count, 100_000) * percent / 100
    assert abs(lost - expected) < 4 * expected**0.5
    assert all(queue(loss=100.0).release(ipv4(), 0)[1] for _ in range(10))
    assert not any(queue().release(ipv4(), 0)[1] for _ in range(10))


def test_equal_seeds_give_equal_delays() -> None:
    def waits(seed: str) -> list[int]:
        path = queue(delay=10, jitter=2, seed=seed)
        return [due(path, ipv4(), at * 10**9) for at in range(20)]

    assert waits("a") == waits("a")
    assert waits("a") != waits("b")


def test_large_packets_stay_whole_where_frames_would_fare_alike() -> None:
    assert queue(delay=5.0).settings.whole
    assert queue(delay=5.0, rate=10.0).settings.whole
    assert not queue(delay=5.0, jitter=1.0).settings.whole
    assert not queue(loss=0.1).settings.whole


def table(*queues: dict[str, float | None]) -> delay_table.Table:
    configuration = {
        "state": "/a path/state",
        "series": "/a path/series",
        "seed": "12345678",
        "machines": [
            {"name": "edge-1", "namespace": "/proc/1/ns/net", "queues": list(queues)},
            {"name": "edge-2", "namespace": "/run/netns/x y", "queues": [entry(1.0)]},
        ],
    }
    return delay_table.of(configuration, "ab" * 32)


@given(
    delay=st.floats(0, 1e4),
    ratio=st.floats(0, 1),
    loss=st.floats(0, 100),
    rate=st.none() | st.floats(0.01, 1e5),
)
def test_tables_are_read_as_they_were_written(
    delay: float, ratio: float, loss: float, rate: float | None
) -> None:
    one = table(entry(delay, delay * ratio, loss, rate))
    assert delay_table.read(delay_table.write(one)) == one


def test_what_is_no_table_is_refused() -> None:
    text = delay_table.write(table(entry(1.0)))
    for wrong in (
        "",
        "{}",
        text.replace("continuum-links 1", "continuum-links 2"),
        text.replace("digest", "dig"),
        "".join(line for line in text.splitlines(keepends=True) if "state" not in line),
        text.replace("queue 1003", "queue 1003 1"),
    ):
        with pytest.raises(ValueError, match=r"."):
            delay_table.read(wrong)
    with pytest.raises(ValueError, match="one line"):
        delay_table.write(dataclasses.replace(table(), state="a\nqueue 1"))


@pytest.fixture(scope="session")
def compiled() -> Path:
    """The program in C."""
    program = native.program("delay_emulator")
    if program is None:
        pytest.skip("no C compiler")
    return program


def replay(compiled: Path, file: Path, packets: Sequence[tuple[int, bytes]]) -> list[str]:
    lines = "".join(f"0 1003 {at} {packet.hex()}\n" for at, packet in packets)
    done = subprocess.run(
        (compiled, "--replay", file), input=lines, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


packets = st.lists(
    st.tuples(
        st.integers(0, 20 * MS),
        st.builds(
            ipv4,
            st.integers(20, 65_535),
            st.tuples(st.just(10), st.just(0), st.integers(0, 3), st.integers(0, 255)),
            ports=st.integers(0, 3),
            protocol=st.sampled_from([UDP, TCP, ICMP, 132]),
            fragment=st.sampled_from([0, 0x4000, 0x2000, 0x00B9]),
            options=st.integers(0, 10),
        ).map(lambda packet: packet[: codec.COPIED]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    delay=st.floats(0, 1000),
    ratio=st.just(0.0) | st.floats(0, 1),
    loss=st.sampled_from([0.0, 0.1, 30.0, 100.0]),
    rate=st.none() | st.floats(0.1, 1e4),
    begin=st.integers(0, 10**17),
    arriving=packets,
)
def test_both_programs_release_equal_packets_at_equal_times(  # noqa: PLR0917
    compiled: Path,
    tmp_path: Path,
    delay: float,
    ratio: float,
    loss: float,
    rate: float | None,
    begin: int,
    arriving: list[tuple[int, bytes]],
) -> None:
    text = delay_table.write(table(entry(delay, delay * ratio, loss, rate)))
    file = tmp_path / "table"
    file.write_text(text)
    path = Queue.of(delay_table.read(text).machines[0].queues[0])
    now, known = begin, []
    for gap, packet in arriving:
        now += gap
        known.append((now, packet))
    found = [line.split() for line in replay(compiled, file, known)]
    expected = [path.release(packet, at) for at, packet in known]
    assert [line[1:] == ["lost"] for line in found] == [lost for _, lost in expected]
    # The mathematical functions of two libraries may differ in the last bit.
    differences = [int(line[0]) - at for line, (at, _) in zip(found, expected, strict=True)]
    assert max(map(abs, differences)) <= 1


def test_the_compiled_program_keeps_the_jitter(compiled: Path, tmp_path: Path) -> None:
    """Many packets of one flow, so that slots follow one another."""
    one = table(entry(7.5, 2.5))
    file = tmp_path / "table"
    file.write_text(delay_table.write(one))
    known = [(at * 100_000, ipv4()) for at in range(20_000)]
    found = [int(line) for line in replay(compiled, file, known)]
    settings = one.machines[0].queues[0]
    key = jitter.key(settings.seed, 0x0A000001)
    waits = [int(jitter.delay(settings.process, key, at)) for at, _ in known]
    later = [one - at - wait for one, (at, _), wait in zip(found, known, waits, strict=True)]
    assert min(later) >= -1
    assert sum(each > 1 for each in later) < 10


@pytest.mark.parametrize(
    ("arguments", "table", "said"),
    [
        ([], "", "usage"),
        (["00000000", "TABLE"], "nothing\n", "not a line"),
        (["00000000", "TABLE"], "continuum-links 2\n", "not a table"),
        (["00000000", "TABLE"], "continuum-links 1\nmachine x\nqueue 1 2\n", "not a queue"),
        (["00000000", "TABLE"], "continuum-links 1\ndigest x\n", "not whole"),
        (["00000000", "/nonexistent"], "", "No such file"),
    ],
)
def test_the_compiled_program_tells_what_is_wrong(
    compiled: Path, tmp_path: Path, arguments: list[str], table: str, said: str
) -> None:
    file = tmp_path / "table"
    file.write_text(table)
    words = [str(file) if each == "TABLE" else each for each in arguments]
    done = subprocess.run((compiled, *words), capture_output=True, text=True, check=False)
    assert done.returncode in {1, 2}
    assert said in done.stderr


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
    assert codec.configure(1, maximum_length=1024, whole=True).hex() == (
        "38000000" "0203" "0500" "00000000" "00000000" "00" "00" "0001"
        "09000200" "0000004002" "000000"  # parameters: 64 bytes, copy packets
        "08000300" "00000400"  # at most 1024
        "08000400" "00000004" "08000500" "00000004"  # mask and flags: large packets whole
    )  # fmt: skip
    assert codec.configure(1, maximum_length=1024, whole=False).hex().endswith(
        "08000400" "00000004" "08000500" "00000000"
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
    payload = codec.attribute(codec.ATTRIBUTE_PAYLOAD, bytes(range(31)))
    device = codec.attribute(5, bytes(4))
    for attributes in ((time, payload), (device, payload), (device, time, device, payload)):
        data = packet(*attributes)
        found = codec.layout(data)
        assert data[codec.PACKET_NUMBER] == (7).to_bytes(4, "big")
        assert data[codec.QUEUE_NUMBER] == (1003).to_bytes(2, "big")
        assert data[codec.KIND] == codec.KIND_PACKET
        assert data[found.header : found.end] == bytes(range(31))
        if time in attributes:
            assert struct.unpack_from("!QQ", data, found.timestamp) == (5, 6)
        else:
            assert found.timestamp == 0


@given(st.binary(max_size=100))
def test_no_bytes_confuse_the_reader(data: bytes) -> None:
    found = codec.layout(data)
    assert found.header + 20 <= found.end <= len(data) or found.header == found.end == 0
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


IN_A_USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")


@pytest.mark.skipif(
    subprocess.run((*IN_A_USER_NAMESPACE, "true"), capture_output=True, check=False).returncode
    != 0,
    reason="no user namespaces here",
)
@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_queues_open_in_a_user_namespace_with_a_smaller_buffer(kind: str) -> None:
    program: tuple[str, ...] = (sys.executable, "-m", "continuum_runtime.delay_emulator")
    if kind == "compiled":
        compiled = native.program("delay_emulator")
        if compiled is None:
            pytest.skip("no compiler")
        program = (str(compiled),)
    outside = subprocess.run(
        ("unshare", "--net", *program, "--probe"), capture_output=True, text=True, check=False
    )
    if outside.returncode != 0:
        pytest.skip(f"no packet queues here: {outside.stdout}{outside.stderr}")
    ended = subprocess.run(
        (*IN_A_USER_NAMESPACE, *program, "--probe"), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    most = int(Path("/proc/sys/net/core/rmem_max").read_text())
    assert f"is {most} bytes instead of {delay_emulator.RECEIVE_BUFFER}" in ended.stderr
