"""The key of this user by which digests of secrets are made: nobody else can guess by them."""

from __future__ import annotations

import secrets

import platformdirs

from continuum import folders

_BYTES = 32


def digest_key() -> bytes:
    """The key, which is made at its first use."""
    path = platformdirs.user_state_path("continuum") / "digest.key"
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        kept = b""
    if len(kept) != _BYTES:
        kept = secrets.token_bytes(_BYTES)
        folders.write_file(path, kept, folders.PRIVATE_FILE)
    return kept
