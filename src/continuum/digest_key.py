"""The key of this user by which digests of secrets are made: nobody else can guess by them."""

from __future__ import annotations

import secrets

import platformdirs

from continuum import folders, state_file

_BYTES = 32


def digest_key() -> bytes:
    """The key, which is made at its first use."""
    path = platformdirs.user_state_path("continuum") / "digest.key"
    kept = state_file.undamaged(state_file.read_bytes(path)) or b""
    if len(kept) != _BYTES:
        kept = secrets.token_bytes(_BYTES)
        folders.remove_other_kinds(path)
        folders.write_file(path, kept, folders.PRIVATE_FILE)
    return kept
