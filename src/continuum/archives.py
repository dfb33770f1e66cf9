"""Archives that came from outside: nothing in them is believed before it is checked.

One reader for all of them: archives of artifacts, container images, layers of machine images,
official releases. What is wrong with one is a reason in a few words (`Unsafe`), and `refusing` makes
one error of it that names the file.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self, cast

from continuum import state_file
from continuum.errors import NotFound, StepFailed
from continuum.experiment.document import shown as shown_value
from continuum.experiment.units import show_bytes
from continuum.machine import refuse_when_stopped

MEMBERS = 500_000
"""Members of one archive."""

DEPTH = 256
"""Folders above a member."""

JSON_BYTES = 2**23
"""Bytes of one JSON document."""

_NAME_BYTES = 255
_HEADER_BYTES = 2**20
_ATTRIBUTES = 4 * MEMBERS
_CHUNK = 2**20

# What is larger than this and was packed tighter than this was made to fill a disk: programs and
# systems pack 2 to 20 times.
_BOMB_BYTES = 2**30
_BOMB_RATIO = 200

DEVICES = frozenset(
    {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)}  # null … ptmx
    | {(0, 0)}  # no device at all: how overlayfs marks what an upper layer removes
)
"""Character devices, by major and minor number, that every machine has of its own anyway."""

_LONG_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
    | {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_XATTR = "SCHILY.xattr."

_OF_THE_HOST = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
)

_DAMAGED = (
    *(zlib.error, lzma.LZMAError, struct.error),
    *(ValueError, LookupError, OverflowError, RecursionError, MemoryError),
)


class Unsafe(Exception):
    """Reason for refusing an archive, in words that follow its name and a colon."""


@contextmanager
def refusing(source: Path, headline: str, hint: str) -> Iterator[None]:
    """Make one error, `headline` and the reason, of whatever is wrong with the archive `source`.

    Raises:
        StepFailed: something is.
    """
    try:
        yield
    except Unsafe as error:
        why = str(error)
    except (tarfile.TarError, EOFError) as error:
        why = f"it is no whole tar archive ({_said(error)})"
    except _DAMAGED as error:
        why = f"it is damaged ({_said(error)})"
    except OSError as error:
        # Decompressors speak of damage so; with a number it is this host's own trouble.
        if error.errno is not None:
            raise
        why = f"it is damaged ({_said(error)})"
    else:
        return
    raise StepFailed(f"{headline}: {why}", where=str(source), hint=hint)


def _said(error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    return shown(first, 160) or {RecursionError: "nested too deep", MemoryError: "too large"}.get(
        type(error), type(error).__name__
    )


# -- files ---------------------------------------------------------------------------------------


def open_file(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; never waits for whoever may write to it.

    Raises:
        NotFound: there is no such file.
        StepFailed: it is something else, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except OSError as error:
        other = other_kind(path)
        why = f"is no regular file, but {other}" if other else f"cannot be read: {error.strerror}"
        raise StepFailed(f"{path} {why}", where=str(path)) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise StepFailed(f"{path} is no regular file, but {state_file.kind(mode)}", where=str(path))
    return os.fdopen(descriptor, "rb")


def other_kind(path: Path) -> str | None:
    """Kind of what stands in a regular file's place, as "a FIFO"; None for a file, or for nothing."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else state_file.kind(mode)


# -- compression ---------------------------------------------------------------------------------


def unpacked(file: IO[bytes], size: int, room: int) -> io.BufferedReader:
    """The content of a file that may be compressed by gzip, bzip2, xz or zstd; from its beginning.

    `size` is the file's own, and `room` how many bytes may come out.
    """
    opener = _opener(file)
    return io.BufferedReader(_Limited(opener(file) if opener else file, size, room), _CHUNK)


def is_compressed(file: IO[bytes]) -> bool:
    """Tell whether a file is compressed in a way that `unpacked` knows."""
    return _opener(file) is not None


def _opener(file: IO[bytes]) -> Callable[[IO[bytes]], IO[bytes]] | None:
    head = file.read(6)
    file.seek(0)
    return next((each for magic, each in _OPENERS.items() if head.startswith(magic)), None)


def _zstd(file: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa  # noqa: PLC0415  slow to import, and few archives are in zstd

    return cast("IO[bytes]", pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd"))


_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file)),
    b"BZh": lambda file: cast("IO[bytes]", bz2.BZ2File(file)),
    b"\xfd7zXZ\x00": lambda file: cast("IO[bytes]", lzma.LZMAFile(file)),  # noqa: SIM115  it closes nothing of ours
    b"\x28\xb5\x2f\xfd": _zstd,
}
"""Decompressors by the first bytes of what they read."""


class _Limited(io.RawIOBase):
    """Output of a decompressor, until it is more than there is room for."""

    def __init__(self, file: IO[bytes], packed: int, room: int) -> None:
        super().__init__()
        self._file = file
        self._packed = packed
        self._room = room
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  whatever has bytes
        view = memoryview(buffer)
        piece = self._file.read(min(len(view), _CHUNK))
        refuse_when_stopped("reading an archive")
        view[: len(piece)] = piece
        self._size += len(piece)
        if self._size > self._room:
            raise Unsafe(
                f"it unpacks to more than the {show_bytes(self._room)} that there is room for"
            )
        if self._size > max(_BOMB_BYTES, _BOMB_RATIO * self._packed):
            raise Unsafe(
                f"it unpacks to more than {_BOMB_RATIO} times its own size, as what fills disks does"
            )
        return len(piece)


# -- tar -----------------------------------------------------------------------------------------


class _Member(tarfile.TarInfo):
    """A member whose header claims no more than a header can be."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0:
            raise Unsafe("a member claims a size below 0")
        if found.type in _LONG_HEADERS and found.size > _HEADER_BYTES:
            raise Unsafe(f"a member's name or attributes take {show_bytes(found.size)}")
        return found


@contextmanager
def tar_stream(file: IO[bytes], room: int) -> Iterator[tarfile.TarFile]:
    """A tar file read from its beginning to its end, once; it may be compressed."""
    size = os.fstat(file.fileno()).st_size
    with (
        unpacked(file, size, room) as plain,
        tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member, bufsize=_CHUNK) as tar,
    ):
        yield tar


@contextmanager
def tar_file(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """A tar file that is not compressed, with any member at any time."""
    with tarfile.open(fileobj=file, mode="r:", tarinfo=_Member) as tar:
        yield tar


def members(tar: tarfile.TarFile, *, stream: bool = False) -> Iterator[tarfile.TarInfo]:
    """The members of a tar file, their number, names and lengths checked.

    `stream` is for a file that cannot be looked at twice.
    """
    count = attributes = 0
    while (member := tar.next()) is not None:
        refuse_when_stopped(member.name)
        count += 1
        attributes += len(member.pax_headers)
        if count > MEMBERS or attributes > _ATTRIBUTES:
            raise Unsafe(f"it has more than {MEMBERS:,} members")
        parts = os.fsencode(member.name).split(b"/")
        if len(parts) > DEPTH or max(map(len, parts)) > _NAME_BYTES:
            raise Unsafe(f"{shown(member.name)} is too long a name, or lies too deep")
        yield member
    if not stream:
        # Behind a broken header tarfile sees an end; another program may see more.
        assert tar.fileobj is not None
        tar.fileobj.seek(tar.offset)
        if any(tar.fileobj.read(tarfile.BLOCKSIZE)):
            raise Unsafe(f"it is damaged at byte {tar.offset}")


def content_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """The content of a member that is a plain file; what is something else is refused."""
    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None:
        raise Unsafe(f"{shown(member.name)} is {kind_of(member)}, not a file")
    return content


def kind_of(member: tarfile.TarInfo) -> str:
    """Kind of a member, in words."""
    kinds = (
        (member.isdir(), "a folder"),
        (member.issym(), "a symbolic link"),
        (member.islnk(), "a hard link"),
        (member.isfifo(), "a FIFO"),
        (member.ischr() or member.isblk(), "a device node"),
        (member.issparse(), "a sparse file"),
        (member.isreg(), "a file"),
    )
    return next((kind for found, kind in kinds if found), "of an unknown kind")


def check_system_member(member: tarfile.TarInfo) -> None:
    """Refuse what no file system of a machine or container has to bring.

    Links may point anywhere: they mean what they say inside. Names may begin with "/", which is the
    root of that system.
    """
    name = shown(member.name)
    if ".." in member.name.split("/"):
        raise Unsafe(f"{name} leads out of it")
    if member.islnk() and ".." in member.linkname.split("/"):
        raise Unsafe(f"{name} is a hard link that leads out of it")
    if member.isblk() or (member.ischr() and (member.devmajor, member.devminor) not in DEVICES):
        raise Unsafe(f"{name} is a device node {member.devmajor}:{member.devminor}")
    if not (
        (member.isreg() and not member.issparse())
        or member.isdir()
        or member.issym()
        or member.islnk()
        or member.ischr()
    ):
        raise Unsafe(f"{name} is {kind_of(member)}")


def extract_system(tar: tarfile.TarFile, folder: Path, room: int) -> None:
    """Unpack a file system with its owners, modes, times and attributes into an empty folder.

    Nothing is written through a link, nor twice. Needs root.
    """
    kinds: dict[str, bytes] = {}
    later: list[tuple[Path, tarfile.TarInfo]] = []
    total = 0
    for member in members(tar):
        check_system_member(member)
        name = member.name.removeprefix("./").rstrip("/")
        parts = name.split("/")
        if not all(parts) or "." in parts:
            raise Unsafe(f"{shown(member.name)} is no path within it")
        above = "/".join(parts[:-1])
        if name in kinds:
            raise Unsafe(f"{shown(name)} stands in it twice")
        if above and kinds.get(above) != tarfile.DIRTYPE:
            raise Unsafe(f"{shown(name)} does not lie in a folder of it")
        if member.islnk() and kinds.get(member.linkname) in (None, tarfile.DIRTYPE):
            raise Unsafe(f"{shown(name)} is a hard link to what is not in it")
        total += member.size + tarfile.BLOCKSIZE
        if total > room:
            raise Unsafe(f"it takes more than the {show_bytes(room)} that there is room for")
        kinds[name] = tarfile.DIRTYPE if member.isdir() else member.type
        path = folder / name
        with _naming(name):
            _make(tar, member, path, folder)
            if member.isdir():
                later.append((path, member))
            elif not member.islnk():
                _dress(path, member)
    for path, member in reversed(later):
        with _naming(member.name):
            _dress(path, member)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Name the member that no file system takes; a full or broken disk is no fault of its."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_HOST:
            raise
        raise Unsafe(f"{shown(name)} cannot be unpacked: {error.strerror or error}") from error


def _make(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, folder: Path) -> None:
    if member.isdir():
        path.mkdir(mode=0o700)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(folder / member.linkname, path, follow_symlinks=False)
    elif member.ischr():
        number = os.makedev(member.devmajor, member.devminor)
        os.mknod(path, stat.S_IFCHR | 0o600, number)
    else:
        with path.open("xb") as file:
            copy(content_of(tar, member), file)


def _dress(path: Path, member: tarfile.TarInfo) -> None:
    """Give a file its owner, then what a change of owner would take away."""
    os.chown(path, member.uid, member.gid, follow_symlinks=False)
    if not member.issym():
        path.chmod(stat.S_IMODE(member.mode))
    for key, value in member.pax_headers.items():
        if key.startswith(_XATTR):
            text = value.encode("utf-8", "surrogateescape")
            os.setxattr(path, key.removeprefix(_XATTR), text, follow_symlinks=False)
    nanoseconds = int(member.mtime * 10**9)
    os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)


def copy(content: IO[bytes], target: IO[bytes], sink: Iterable[Any] = ()) -> int:
    """Copy a member to a file, and to each hash of `sink`; returns how many bytes there were."""
    size = 0
    while chunk := content.read(_CHUNK):
        refuse_when_stopped("reading an archive")
        for each in sink:
            each.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return size


# -- what is written in them ---------------------------------------------------------------------


def document(content: IO[bytes], name: str) -> bytes:
    """A document of an archive, not longer than documents are."""
    text = content.read(JSON_BYTES + 1)
    if len(text) > JSON_BYTES:
        raise Unsafe(f"{name} is longer than {show_bytes(JSON_BYTES)}")
    return text


def json_of(text: bytes, name: str) -> Any:  # noqa: ANN401  whatever JSON holds
    """Content of a document in JSON, not deeper than documents are."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else shown(str(error))
        raise Unsafe(f"{name} is no JSON ({why})") from error


def shown(text: str, most: int = 100) -> str:
    """A text of an archive as a message may carry it: one line, short, nothing that a terminal obeys."""
    return shown_value(text, most)
