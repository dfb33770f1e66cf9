"""Archives from outside, one of every kind that is refused, and hundreds that chance has damaged."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from continuum import archives
from continuum.artifacts import archive
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import ArtifactStore
from continuum.errors import ContinuumError, NotFound, StepFailed
from continuum.events import Events
from continuum.images import containers, foreign, packed, store
from foreign_archives import HIGH, LOW, docker, layout, tar_of
from go_programs import quiet

ROOM = 2**26
GIB = 2**30


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, 0o755
    for key, value in more.items():
        setattr(member, key, value)
    return member


def tar(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as written:
        for each in members:
            member, content = each if isinstance(each, tuple) else (each, b"")
            member.size = len(content) if isinstance(each, tuple) else member.size
            written.addfile(member, io.BytesIO(content))
    return target.getvalue()


RECORD = (entry("record.json"), b'{"suite": "bookworm"}')
ROOT = entry("root", tarfile.DIRTYPE)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


# -- files ---------------------------------------------------------------------------------------


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


KINDS = [(_fifo, "a FIFO"), (_folder, "a folder"), (_device, "a device")]


@pytest.mark.parametrize(("make", "said"), KINDS)
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    path = make(tmp_path / "a.tar")
    with pytest.raises(StepFailed, match=f"a.tar is no regular file, but {said}$"):
        archives.open_file(path)
    with pytest.raises(StepFailed, match="no regular file"):
        archive.read(ArtifactStore(Events(), folder=tmp_path / "store"), path, quiet)
    assert f"is no regular file, but {said}" in str(foreign.problem_with_archive(path))
    with pytest.raises(ContinuumError, match="is no regular file"):
        containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)


def test_a_fifo_that_somebody_writes_to_is_refused_too(tmp_path: Path) -> None:
    path = _fifo(tmp_path / "a.tar")
    writer = threading.Thread(target=path.write_bytes, args=(b"x",), daemon=True)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer.start()
    with pytest.raises(StepFailed, match="a FIFO"):
        archives.open_file(path)
    os.close(reader)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        archives.open_file(tmp_path / "a.tar")
    assert archives.other_kind(tmp_path / "a.tar") is None


# -- compression ---------------------------------------------------------------------------------


def _zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def _xz(content: bytes) -> bytes:
    return lzma.compress(content, preset=0)


PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, bz2.compress, _xz, _zstd]


def _unpacked(content: bytes, room: int) -> bytes:
    with archives.unpacked(io.BytesIO(content), len(content), room) as plain:
        return plain.read()


@pytest.mark.parametrize("pack", PACKERS)
def test_more_than_there_is_room_for_is_stopped_while_it_is_read(
    pack: Callable[[bytes], bytes],
) -> None:
    content = bytes(2**23)
    assert _unpacked(pack(content), len(content)) == content
    with pytest.raises(archives.Unsafe, match=r"more than the 1 MiB that there is room for"):
        _unpacked(pack(content), 2**20)


def test_what_was_made_to_fill_a_disk_is_stopped_though_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archives, "_BOMB_BYTES", 2**22)
    bomb = gzip.compress(bytes(2**23))
    with pytest.raises(archives.Unsafe, match="200 times its own size"):
        _unpacked(bomb, GIB)
    with pytest.raises(archives.Unsafe, match="200 times its own size"):
        _unpacked(bz2.compress(bytes(2**23)), GIB)


# -- members -------------------------------------------------------------------------------------


def _members(content: bytes) -> list[str]:
    with archives.tar_file(io.BytesIO(content)) as opened:
        return [each.name for each in archives.members(opened)]


def test_numbers_of_members_and_of_attributes_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    content = tar(*(entry(f"{number}") for number in range(10)))
    assert len(_members(content)) == 10
    monkeypatch.setattr(archives, "MEMBERS", 9)
    with pytest.raises(archives.Unsafe, match="more than 9 members"):
        _members(content)
    monkeypatch.setattr(archives, "_ATTRIBUTES", 5)
    more = {f"a{number}": "b" for number in range(6)}
    with pytest.raises(archives.Unsafe, match="more than"):
        _members(tar(entry("x", pax_headers=more)))


@pytest.mark.parametrize("name", ["d/" * 300 + "x", "x" * 300])
def test_depths_and_lengths_of_names_are_limited(name: str) -> None:
    with pytest.raises(archives.Unsafe, match="too long a name, or lies too deep"):
        _members(tar(entry(name)))


def test_headers_that_claim_what_no_header_is_are_refused() -> None:
    long = tar(entry("x", pax_headers={"comment": "y" * (2**20 + 1)}))
    with pytest.raises(archives.Unsafe, match="name or attributes take 1 MiB"):
        _members(long)
    huge = entry("x")
    huge.type, huge.size = tarfile.XHDTYPE, 2**40
    claims = huge.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(archives.Unsafe, match="1 TiB"):
        _members(claims)
    negative = entry("x").tobuf(tarfile.GNU_FORMAT)
    changed = bytearray(negative[:124] + b"\xff" * 12 + negative[136:])
    changed[148:156] = b"        "
    changed[148:156] = b"%06o\0 " % sum(changed)
    with pytest.raises(archives.Unsafe, match="size below 0"):
        _members(bytes(changed) + bytes(1024))


def test_what_lies_behind_a_broken_header_is_not_passed_over() -> None:
    content = bytearray(tar((entry("a"), b"a"), (entry("b"), b"b"), (entry("c"), b"c")))
    content[1024 + 3] ^= 0xFF
    with pytest.raises(archives.Unsafe, match="damaged at byte 1024"):
        _members(bytes(content))


REFUSED = [
    (entry("dev/sda", tarfile.BLKTYPE, devmajor=8), "device node 8:0"),
    (entry("dev/mem", tarfile.CHRTYPE, devmajor=1, devminor=1), "device node 1:1"),
    (entry("dev/kmsg", tarfile.CHRTYPE, devmajor=1, devminor=11), "device node 1:11"),
    (entry("run/pipe", tarfile.FIFOTYPE), "a FIFO"),
    (entry("../outside"), "leads out of it"),
    (entry("a/../../outside"), "leads out of it"),
    (entry("a", tarfile.LNKTYPE, linkname="../outside"), "hard link that leads out of it"),
    (entry("odd", b"Z"), "unknown kind"),
]


@pytest.mark.parametrize(("member", "said"), REFUSED, ids=lambda each: str(each)[:20])
def test_what_no_file_system_has_to_bring_is_refused(
    member: tarfile.TarInfo, said: str, tmp_path: Path, cache: Path
) -> None:
    assert cache
    member = entry(member.name, member.type, **_linked(member))
    unsafe = tar(entry("dev", tarfile.DIRTYPE), member)
    for path in (docker(tmp_path / "own.tar", LOW, unsafe), layout(tmp_path / "own.tar", unsafe)):
        with pytest.raises(StepFailed, match=r"own.tar is no archive of .*: .*") as caught:
            containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
        # tarfile reads members of kinds that it does not know as files.
        assert said in caught.value.message or said == "unknown kind"


def _linked(member: tarfile.TarInfo) -> dict[str, Any]:
    kept = ("linkname", "devmajor", "devminor")
    return {name: getattr(member, name) for name in kept}


def test_the_devices_that_every_machine_has_pass() -> None:
    for major, minor in archives.DEVICES:
        archives.check_system_member(
            entry("dev/x", tarfile.CHRTYPE, devmajor=major, devminor=minor)
        )


# -- layers of machine images --------------------------------------------------------------------


def _layer(tmp_path: Path, *members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Path:
    path = tmp_path / "layer.tar"
    path.write_bytes(tar(*members))
    return path


LAYERS: list[tuple[list[Any], str]] = [
    ([RECORD, entry("root", tarfile.SYMTYPE, linkname="/etc")], "no folder root"),
    ([RECORD], "no folder root"),
    ([ROOT], "no file record.json"),
    ([entry("record.json", tarfile.SYMTYPE, linkname="/etc/passwd"), ROOT], "no file record"),
    ([(entry("record.json"), b"[" * 100_000), ROOT], "nested too deep"),
    ([(entry("record.json"), b"[]"), ROOT], "no table"),
    ([(entry("record.json"), b" " * 2**24), ROOT], "longer than 8 MiB"),
    ([RECORD, ROOT, entry("more")], "more does not belong there"),
    ([RECORD, ROOT, entry("/root/x")], "no path within it"),
    ([RECORD, ROOT, entry("root//x")], "no path within it"),
    ([RECORD, ROOT, entry("root/../../x")], "leads out"),
    ([RECORD, entry("root/x")], "does not lie in a folder of it"),
    (
        [RECORD, ROOT, entry("root/l", tarfile.SYMTYPE, linkname="/tmp"), entry("root/l/x")],  # noqa: S108
        "does not lie in a folder of it",
    ),
    ([RECORD, ROOT, entry("root/x"), entry("root/x")], "twice"),
    ([RECORD, ROOT, entry("root/x", tarfile.LNKTYPE, linkname="/etc/shadow")], "not in it"),
    ([RECORD, ROOT, entry("root/x", tarfile.LNKTYPE, linkname="root")], "not in it"),
    ([RECORD, ROOT, entry("root/x", tarfile.FIFOTYPE)], "a FIFO"),
    ([RECORD, ROOT, entry("root/x", tarfile.BLKTYPE, devmajor=8)], "device node"),
    ([RECORD, ROOT, entry("root/x", pax_headers={"GNU.sparse.size": "99999999"})], "sparse"),
    ([RECORD, ROOT, entry("root/x", uid=2**40)], "damaged"),
    ([RECORD, ROOT, entry("root/x", pax_headers={"mtime": "inf"})], "damaged"),
]


@pytest.mark.parametrize(("members", "said"), LAYERS, ids=[said for _, said in LAYERS])
def test_a_layer_that_is_none_is_refused_and_leaves_nothing(
    members: list[Any], said: str, tmp_path: Path, cache: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("layers are root's")
    path = _layer(tmp_path, *members)
    with pytest.raises(StepFailed, match=r"layer base-1 in evil\.tar is no layer") as caught:
        packed.unpack("base-1", path, quiet, origin="evil.tar")
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert not store.is_built("base-1")
    assert [each.name for each in (cache / "continuum/images").iterdir()] == [".base-1.lock"]


def test_a_layer_is_unpacked_as_it_is(tmp_path: Path, cache: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("layers are root's")
    path = _layer(
        tmp_path,
        RECORD,
        ROOT,
        entry("root/bin", tarfile.SYMTYPE, linkname="usr/bin"),
        entry("root/usr", tarfile.DIRTYPE, mode=0o700, uid=7, gid=8),
        (entry("root/usr/sudo", mode=0o4755, mtime=1234.5), b"program"),
        entry("root/usr/same", tarfile.LNKTYPE, linkname="root/usr/sudo"),
        entry("root/usr/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    )
    assert packed.unpack("base-1", path, quiet, origin="good.tar")
    assert store.record("base-1")["from"] == "archive good.tar"
    root = cache / "continuum/images/base-1/root"
    assert (root / "bin").readlink() == Path("usr/bin")
    folder, program = (root / "usr").stat(), (root / "usr/sudo").stat()
    assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (7, 8, 0o700)
    assert (stat.S_IMODE(program.st_mode), program.st_mtime_ns) == (0o4755, 1_234_500_000_000)
    assert program.st_nlink == 2
    assert (root / "usr/null").stat().st_rdev == os.makedev(1, 3)


def test_a_layer_that_is_a_link_does_not_count_as_built(tmp_path: Path, cache: Path) -> None:
    folder = cache / "continuum/images/base-1"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    (folder / "root").symlink_to("/etc")
    assert tmp_path
    assert not store.is_built("base-1")


# -- container images ----------------------------------------------------------------------------


def _blobs(*documents: Mapping[str, Any]) -> tuple[dict[str, bytes], list[str]]:
    import hashlib

    texts = [json.dumps(each).encode() for each in documents]
    digests = [hashlib.sha256(text).hexdigest() for text in texts]
    files = {f"blobs/sha256/{each}": text for each, text in zip(digests, texts, strict=True)}
    return files, [f"sha256:{each}" for each in digests]


def _refusal(path: Path, tmp_path: Path) -> str:
    with pytest.raises(StepFailed) as caught:
        containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
    assert caught.value.message.startswith(path.name) or path.name in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


def test_an_index_that_names_itself_or_leads_on_and_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.tar"
    itself = {"manifests": [{"digest": f"sha256:{'a' * 64}"}]}
    text = json.dumps(itself).encode()
    path.write_bytes(tar_of({"index.json": text, f"blobs/sha256/{'a' * 64}": text}))
    assert "is no archive of a container image" in _refusal(path, tmp_path)
    files: dict[str, bytes] = {}
    document: dict[str, Any] = {"manifests": []}
    for _ in range(4):
        more, (digest,) = _blobs(document)
        files |= more
        document = {"manifests": [{"digest": digest}]}
    path.write_bytes(tar_of({**files, "index.json": json.dumps(document).encode()}))
    assert "leads on more than 3 times" in _refusal(path, tmp_path)


def test_a_layer_named_again_and_again_is_no_way_to_fill_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gzip.compress(tar((entry("zeros"), bytes(2**20))))
    names = ["layer.tar"] * 100
    manifest = [{"Config": "config.json", "Layers": names}]
    path = tmp_path / "own.tar"
    files = {"config.json": b"{}", "layer.tar": content}
    path.write_bytes(tar_of({**files, "manifest.json": json.dumps(manifest).encode()}))
    monkeypatch.setattr(store, "free", lambda _: 2**25)
    assert "room for" in _refusal(path, tmp_path)
    manifest[0]["Layers"] = names * 3
    path.write_bytes(tar_of({**files, "manifest.json": json.dumps(manifest).encode()}))
    assert "at most 256" in _refusal(path, tmp_path)


def test_links_between_layers_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    manifest = [{"Config": "config.json", "Layers": ["a/layer.tar"]}]
    documents = [
        (entry("config.json"), b"{}"),
        (entry("manifest.json"), json.dumps(manifest).encode()),
    ]
    path = tmp_path / "own.tar"
    link = entry("a/layer.tar", tarfile.SYMTYPE, linkname="../b/layer.tar")
    path.write_bytes(tar(*documents, link, (entry("b/layer.tar"), LOW)))
    containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
    for target in ("../a/layer.tar", "/etc/passwd", "../../../etc/passwd"):
        link = entry("a/layer.tar", tarfile.SYMTYPE, linkname=target)
        path.write_bytes(tar(*documents, link))
        assert "own.tar is no archive" in _refusal(path, tmp_path)


# -- chance --------------------------------------------------------------------------------------


def _cut(changed: bytearray, begin: int, _: int, __: random.Random) -> None:
    del changed[begin:]


def _flip(changed: bytearray, begin: int, _: int, chance: random.Random) -> None:
    changed[begin] ^= 1 << chance.randrange(8)


def _noise(changed: bytearray, begin: int, end: int, chance: random.Random) -> None:
    changed[begin:end] = chance.randbytes(end - begin)


def _double(changed: bytearray, begin: int, end: int, _: random.Random) -> None:
    changed[begin:begin] = changed[begin:end]


def _drop(changed: bytearray, begin: int, end: int, _: random.Random) -> None:
    del changed[begin:end]


def _fill(changed: bytearray, begin: int, end: int, _: random.Random) -> None:
    changed[begin:end] = b"\xff" * (end - begin)


def _forge(changed: bytearray, begin: int, _: int, chance: random.Random) -> None:
    """Another byte in a header, from its mode to its kind, and the header's own sum right again."""
    block = begin // 512 * 512
    head = changed[block : block + 512]
    if len(head) == 512:
        head[100 + chance.randrange(58)] = chance.choice(b"\x00 0157xLKgS\xff\x80")
        head[148:156] = b"        "
        head[148:156] = b"%06o\0 " % sum(head)
        changed[block : block + 512] = head


CHANGES: tuple[Callable[[bytearray, int, int, random.Random], None], ...]
CHANGES = (_cut, _flip, _noise, _double, _drop, _fill, _forge, _forge)


def _mutations(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """As disks, networks and people damage files; some are compressed, and damaged after that."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            begin = chance.randrange(len(changed)) if changed else 0
            end = begin + chance.choice((1, 2, 8, 12, 100, 512))
            if changed:
                chance.choice(CHANGES)(changed, begin, min(end, len(changed)), chance)
        packed_again = chance.random()
        if packed_again < 0.3:
            changed = bytearray(chance.choice(PACKERS)(bytes(changed)))
        if packed_again < 0.15:
            begin = chance.randrange(len(changed))
            chance.choice(CHANGES)(changed, begin, min(begin + 20, len(changed)), chance)
        yield bytes(changed)


def test_names_cannot_speak_to_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(tar((entry("manifest.json"), b"{}"), entry("\x1b[2Jx\udcff\n" + "y" * 150)))
    with pytest.raises(StepFailed) as caught:
        archive.read(ArtifactStore(Events(), folder=tmp_path / "store"), path, quiet)
    assert "?[2Jx??yyy" in caught.value.message
    assert caught.value.message.isprintable()


def _one_sentence(error: ContinuumError, name: str) -> None:
    assert error.exit_code in (1, 2, 5), error
    assert name in error.message
    assert error.message.isprintable()
    assert len(error.message) < 500


def test_300_damaged_archives_of_artifacts_are_told_or_whole(tmp_path: Path) -> None:
    full = ArtifactStore(Events(), folder=tmp_path / "full")
    for name, content in (("pause", b"a saw" * 300), ("busybox", b"")):
        file = tmp_path / name
        file.write_bytes(content)
        full.add(Wanted(name, "debian"), file, "official release")
    path = tmp_path / "some.tar"
    archive.write(full, [each.wanted for each in full.all()], path, quiet)
    whole, seen = path.read_bytes()[:8192], {each.sha256 for each in full.all()}
    refused = 0
    for number, damaged in enumerate(_mutations(whole, 15, 300)):
        path.write_bytes(damaged)
        empty = ArtifactStore(Events(), folder=tmp_path / f"empty-{number}")
        try:
            archive.read(empty, path, quiet)
        except ContinuumError as error:
            refused += 1
            _one_sentence(error, "some.tar")
            assert empty.all() == []
        else:
            assert {each.sha256 for each in empty.all()} <= seen
        assert not list(empty.folder.glob("work/*"))
    assert refused > 200


@pytest.mark.parametrize("write", [docker, layout])
def test_300_damaged_container_images_are_told_or_read(write: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "own.tar", LOW, HIGH)
    whole = path.read_bytes()
    refused = 0
    for damaged in _mutations(whole, 16, 150):
        path.write_bytes(damaged)
        try:
            containers.archive(foreign.of_archive(path), tmp_path / "archives", quiet)
        except ContinuumError as error:
            refused += 1
            _one_sentence(error, "own.tar")
    assert refused > 60


def test_100_damaged_layers_of_machine_images_are_told_or_whole(
    tmp_path: Path, cache: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("layers are root's")
    members = (RECORD, ROOT, (entry("root/a"), b"a" * 600), entry("root/b", tarfile.DIRTYPE))
    whole = tar(*members, entry("root/b/c", tarfile.LNKTYPE, linkname="root/a"))
    path = tmp_path / "layer.tar"
    images = cache / "continuum/images"
    for damaged in _mutations(whole[:7168], 17, 100):
        path.write_bytes(damaged)
        try:
            packed.unpack("base-1", path, quiet, origin="some.tar")
        except ContinuumError as error:
            _one_sentence(error, "some.tar")
        assert {each.name for each in images.iterdir()} <= {".base-1.lock", "base-1"}
        store.remove(images / "base-1")
