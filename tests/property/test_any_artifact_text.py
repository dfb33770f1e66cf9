"""Whatever a manifest or a list of checksums holds, it is read or refused, never half of it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from continuum.artifacts import archive, release
from continuum.artifacts.archive import Entry, LayerEntry, Manifest
from continuum.artifacts.attempt import Unavailable

_names = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)
_sums = st.text("0123456789abcdef", min_size=64, max_size=64)
_entries = st.builds(
    Entry,
    name=_names,
    version=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.+~:-]{0,20}", fullmatch=True),
    architecture=st.sampled_from(["amd64", "arm64"]),
    sha256=_sums,
    size=st.integers(0, 2**40),
    source=st.from_regex(r"[^\x00-\x1f\x7f-\x9f]{0,50}", fullmatch=True),
)
_layers = st.builds(LayerEntry, key=_names, sha256=_sums, size=st.integers(0, 2**40))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=8,
)


@given(
    st.lists(_entries, max_size=4, unique_by=lambda each: each.wanted.key),
    st.lists(_layers, max_size=3, unique_by=lambda each: each.key),
)
def test_a_manifest_is_read_as_it_was_written(
    entries: list[Entry], layers: list[LayerEntry]
) -> None:
    manifest = Manifest(artifacts=tuple(entries), layers=tuple(layers))
    assert archive.parse(manifest.model_dump_json(indent=2).encode()) == manifest
    assert all(".." not in name.split("/") for name in manifest.members)


@given(st.binary(max_size=200) | _json.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_manifest_or_refused(text: bytes) -> None:
    try:
        found = archive.parse(text)
    except ValueError:
        return
    assert found.members == {} or found.artifacts or found.layers


@given(st.dictionaries(_names, _sums, min_size=1, max_size=5), st.sampled_from(["  ", " *"]))
def test_a_list_of_checksums_gives_each_file_its_own(sums: dict[str, str], between: str) -> None:
    text = "".join(f"{digest}{between}{name}\n" for name, digest in sums.items())
    for name, digest in sums.items():
        assert release.published(text, name) == ("sha256", digest)


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_text_has_a_checksum_or_none(text: str, name: str) -> None:
    try:
        algorithm, digest = release.published(text, name)
    except Unavailable:
        return
    assert len(digest) == {"sha256": 64, "sha512": 128}[algorithm]
    assert int(digest, 16) >= 0
