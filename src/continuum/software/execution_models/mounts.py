"""Which folders of its machine a worker in a container sees, under the same names. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from continuum.software.contract import ProcessSpec


def mounted_folders(process: ProcessSpec) -> tuple[str, ...]:
    """Folders of the files that are put for it, and of those that it writes for us.

    A folder within another one of them comes with that one.
    """
    files = [*process.files, process.ready_file, process.output]
    folders = {PurePosixPath(path).parent for path in files if path}
    return tuple(sorted(str(each) for each in folders if folders.isdisjoint(each.parents)))
