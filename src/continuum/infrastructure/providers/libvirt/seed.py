"""What is put into one machine before it boots: its own files, on a disk that holds a tar archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

_UNIT = 64 * 1024
"""Disks have whole sectors; this is some of them."""


def seed(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    """The disk: files of root's by their path, as (content, mode); equal files give equal disks."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = mode
            archive.addfile(entry, io.BytesIO(content))
    whole = packed.getvalue()
    return whole + b"\0" * (-len(whole) % _UNIT)
