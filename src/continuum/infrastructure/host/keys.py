"""SSH keys, made here so that they are in the machines before the first boot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from continuum import folders, state_file


@dataclass(frozen=True)
class KeyPair:
    """An Ed25519 key: OpenSSH's private format, and the public line without a comment."""

    private: bytes
    public: str


def make() -> KeyPair:
    """A new key."""
    # Slow to import; only needed where a key is missing.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415  see above
        Ed25519PrivateKey,
    )
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  see above
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    return KeyPair(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode(),
    )


def ensure(path: Path) -> KeyPair:
    """The key kept in `path` and `path`.pub, made when it is not there whole."""
    public = path.with_name(f"{path.name}.pub")
    # The public half is written last: when it is there, both are.
    kept, line = state_file.read_bytes(path), state_file.read_text(public)
    if isinstance(kept, bytes) and isinstance(line, str):
        return KeyPair(kept, line.strip())
    pair = make()
    folders.make_folder(path.parent, folders.PRIVATE_FOLDER)
    folders.write_file(path, pair.private, folders.PRIVATE_FILE)
    folders.write_file(public, pair.public + "\n", folders.PRIVATE_FILE)
    return pair
