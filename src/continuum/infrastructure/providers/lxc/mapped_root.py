"""A program: mount a machine's files with its own user ids, then become another program.

    python3 -I -S mapped_root.py FIRST_ID FOLDER HOOK LAYER … -- PROGRAM ARGUMENT …

In a mount namespace of its own, which goes with the program's last process, so the host's mounts
stay as they are:

    /run/continuum/root     overlay of all layers and of FOLDER/upper, for the machine to stand on
    /run/continuum/own      FOLDER, for what else of it the machine has
    /run/continuum/hook     the file HOOK, which the machine's own root may read

    FOLDER                  itself again, where its parents may be entered by their owner alone

Each but the last shows the numbers on disk, from 0, as those from FIRST_ID (idmapped mounts, see
mount_setattr(2)); overlay takes such layers since Linux 5.19. Overlay itself works as the host's
root, whose number is no machine's: it is shown as one more, so that what it makes can be written.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

STAGE = "/run/continuum"
ROOT = f"{STAGE}/root"
OWN = f"{STAGE}/own"
HOOK = f"{STAGE}/hook"
SIZE = 65536

# <linux/mount.h>, <linux/sched.h>; the numbers of new system calls are the same everywhere.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE = 1
_MOVE_FROM_DESCRIPTOR = 0x4
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_ATTR_IDMAP = 0x0010_0000
_NEW_MOUNTS, _NEW_USERS = 0x0002_0000, 0x1000_0000
_RECURSIVE, _SLAVE = 0x4000, 0x0008_0000

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def user_namespace(first: int) -> int:
    """A descriptor of a user namespace with the machine's ids, and the host's root after them."""
    ready_in, ready_out = os.pipe()
    over_in, over_out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(over_out)
        made = _libc.unshare(_NEW_USERS) == 0
        os.write(ready_out, b"y" if made else b"n")
        os.read(over_in, 1)
        os._exit(0)
    os.close(ready_out)
    os.close(over_in)
    try:
        if os.read(ready_in, 1) != b"y":
            raise OSError(0, "no user namespace can be made", "user.max_user_namespaces")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {first} {SIZE}\n{SIZE} 0 1\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(over_out)
        os.close(ready_in)
        os.waitpid(child, 0)


def clone(path: str, namespace: int | None = None) -> int:
    """A descriptor of the mount of a folder, with the ids of a user namespace; not in sight yet."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _call(path, _OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    if namespace is None:
        return tree
    wanted = _Attributes(_ATTR_IDMAP, 0, 0, namespace)
    size = ctypes.sizeof(wanted)
    _call(path, _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size)
    return tree


def attach(tree: int, target: str) -> None:
    """Put a mount in its place."""
    Path(target).mkdir()
    place = os.fsencode(target)
    _call(target, _MOVE_MOUNT, tree, b"", _AT_FDCWD, place, _MOVE_FROM_DESCRIPTOR)
    os.close(tree)


def mount(what: str, target: str, kind: str, flags: int, options: str) -> None:
    """Mount a file system; the arguments are the system call's."""
    done = _libc.mount(
        what.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    if done != 0:
        raise _error(target)


def prepare(first: int, folder: str, hook: str, layers: list[str]) -> None:
    """Everything that the module's first lines tell."""
    if _libc.unshare(_NEW_MOUNTS) != 0:
        raise _error("a mount namespace")
    mount("none", "/", "", _RECURSIVE | _SLAVE, "")
    namespace = user_namespace(first)
    # Before anything is mounted over them: paths may lead anywhere.
    trees = [clone(layer, namespace) for layer in layers]
    own = clone(folder, namespace)
    itself = clone(folder)
    text = Path(hook).read_bytes() if hook else b""
    Path(STAGE).mkdir(mode=0o755, exist_ok=True)
    mount("none", STAGE, "tmpfs", 0, "mode=755,size=1m")
    # By short relative names: the kernel takes one page of options.
    os.chdir(STAGE)
    os.umask(0o022)
    for number, tree in enumerate(trees):
        attach(tree, str(number))
    attach(own, "own")
    Path("root").mkdir()
    Path("hook").write_bytes(text)
    lower = ":".join(str(number) for number in range(len(trees)))
    options = f"lowerdir={lower},upperdir=own/upper,workdir=own/work"
    mount("overlay", "root", "overlay", 0, options)
    if os.statvfs("root").f_flag & os.ST_RDONLY:
        raise OSError(0, "overlay took the upper folder for reading alone", folder)
    os.chdir("/")
    open_way(folder, itself)


def open_way(folder: str, itself: int) -> None:
    """Let the machine's root come to the folder: LXC refuses to start it else.

    What else is in the topmost parent that it may not enter is out of sight for LXC.
    """
    closed = [each for each in reversed(Path(folder).parents) if not each.stat().st_mode & 1]
    if closed:
        mount("none", str(closed[0]), "tmpfs", 0, "mode=755,size=1m")
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        attach(itself, folder)


def _call(what: str, number: int, *arguments: object) -> int:
    done: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if done < 0:
        raise _error(what)
    return done


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)


def main(arguments: list[str]) -> None:
    """Prepare, and become the program."""
    border = arguments.index("--")
    first, folder, hook, *layers = arguments[:border]
    program = arguments[border + 1 :]
    try:
        prepare(int(first), folder, hook, layers)
        # LXC maps ids by itself where it finds no `newuidmap`; that one wants the ranges written
        # down in /etc/subuid.
        os.execve(program[0], program, {**os.environ, "PATH": STAGE})  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
