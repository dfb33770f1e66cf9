from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from continuum.errors import NotFound, NotPossibleHere, StepFailed, TimedOut
from continuum.events import Events
from continuum.images import base, build, containers, oci, sources, store
from continuum.images.containers import ContainerImage
from continuum.images.recipe import (
    ContainerImages,
    DebianPackages,
    InstallStep,
    PythonPackages,
    Recipe,
    Tree,
)
from continuum.images.store import Layer

OS_RELEASE = 'PRETTY_NAME="Some Linux 9"\nID=debian\nVERSION_CODENAME=bookworm\n'
PARAGRAPHS = """\
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

# a comment
Types: deb
URIs: https://other.example/packages
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/other.gpg

Enabled: False
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m.example/debian bookworm main
deb cdrom:[Debian]/ bookworm main
deb-src http://m.example/debian bookworm main
deb\thttp://m.example/debian-security bookworm-security\tmain # trailing words
deb https://download.example/tool stable main
"""


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., sources.HostSources]:
    def make(*, one_line: str = "", paragraphs: str = "", release: str = OS_RELEASE) -> Any:
        apt = tmp_path / "apt"
        (apt / "sources.list.d").mkdir(parents=True, exist_ok=True)
        (apt / "sources.list").write_text(one_line)
        (apt / "sources.list.d" / "d.sources").write_text(paragraphs)
        (tmp_path / "os-release").write_text(release)
        return sources.read(apt, tmp_path / "os-release")

    return make


def test_sources_in_paragraphs_leave_out_third_parties_and_what_is_switched_off(host: Any) -> None:
    found = host(paragraphs=PARAGRAPHS).entries
    assert [(entry.address, entry.suite) for entry in found] == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
    ]
    assert found[0].line() == (
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
        "http://mirror.example/debian bookworm main contrib"
    )


def test_sources_in_lines_keep_their_options(host: Any) -> None:
    found = host(one_line=ONE_LINE).entries
    assert [entry.suite for entry in found] == ["bookworm", "bookworm-security"]
    assert dict(found[0].options)["arch"] == "amd64"
    assert found[1].components == ("main",)


def test_a_mirror_with_a_key_of_its_own_counts_when_there_is_no_other(host: Any) -> None:
    own = "deb [signed-by=/etc/apt/keyrings/site.gpg] http://site.example/debian bookworm main\n"
    assert [entry.address for entry in host(one_line=own).entries] == ["http://site.example/debian"]


@pytest.mark.parametrize(
    ("release", "one_line", "said"),
    [
        ('PRETTY_NAME="Fedora 42"\nID=fedora\n', ONE_LINE, "Fedora 42"),
        (OS_RELEASE, "deb http://m.example/debian trixie main\n", "bookworm"),
    ],
)
def test_a_host_without_fitting_sources_is_told_so(
    host: Any, release: str, one_line: str, said: str
) -> None:
    with pytest.raises(NotPossibleHere, match=said) as caught:
        host(one_line=one_line, release=release)
    assert caught.value.hint


def keys_of(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, host: sources.HostSources) -> set[str]:
    monkeypatch.setattr(sources, "read", lambda: host)
    return set(build._plan(recipe).keys)


def tree(name: str, inputs: str) -> Tree:
    def write(root: Path, progress: Callable[[str], None]) -> None:
        progress(name)
        (root / name).write_text(inputs)

    return Tree(name, inputs, write)


def test_a_small_change_rebuilds_one_layer(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    here = host(one_line=ONE_LINE)
    steps: list[InstallStep] = [
        DebianPackages(("mosquitto",)),
        PythonPackages(("numpy",)),
        tree("a", "1"),
    ]
    before = keys_of(Recipe.collect([*steps, tree("b", "1")]), monkeypatch, here)
    after = keys_of(Recipe.collect([*steps, tree("b", "2")]), monkeypatch, here)
    assert len(before) == len(after) == 4
    assert len(before & after) == 3
    more = keys_of(
        Recipe.collect([*steps, DebianPackages(("chrony",)), tree("b", "1")]), monkeypatch, here
    )
    assert len(before & more) == 3


def test_container_images_bring_containerd_and_one_layer(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = host(one_line=ONE_LINE)

    def image(name: str, tag: str = "1") -> ContainerImage:
        whole = oci.Name(f"continuum.local/{name}", tag)
        return containers.of_files(name, whole, dict, oci.Config())

    with_images = Recipe.collect([ContainerImages((image("b"), image("a"))), tree("a", "1")])
    parts = [ContainerImages((image(name),)) for name in ("a", "b", "a")]
    same = Recipe.collect([*parts, tree("a", "1")])
    assert [each.reference for each in with_images.container_images] == [
        "continuum.local/a:1",
        "continuum.local/b:1",
    ]
    assert {"containerd", "runc"} <= set(with_images.packages)
    assert same.fingerprint == with_images.fingerprint
    other = Recipe.collect([ContainerImages((image("a", "2"), image("b"))), tree("a", "1")])
    assert other.fingerprint != with_images.fingerprint
    before = keys_of(with_images, monkeypatch, here)
    assert len(before) == 3
    assert len(before & keys_of(other, monkeypatch, here)) == 2


def test_what_containers_are_made_of_does_not_boot() -> None:
    recipe = Recipe.collect([DebianPackages(("jq",))])
    assert base.packages(replace(recipe, boots=False)) == ("jq", "python3")
    assert recipe.fingerprint != replace(recipe, boots=False).fingerprint


def test_another_mirror_makes_no_other_image(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.collect([])
    here = host(one_line=ONE_LINE)
    there = host(one_line=ONE_LINE.replace("m.example", "n.example"))
    other = host(one_line=ONE_LINE.replace(" main\n", " main contrib\n"))
    assert keys_of(recipe, monkeypatch, here) == keys_of(recipe, monkeypatch, there)
    assert keys_of(recipe, monkeypatch, here) != keys_of(recipe, monkeypatch, other)


def test_every_image_holds_what_ansible_and_ssh_need() -> None:
    assert {"python3", "openssh-server", "systemd"} <= set(base.packages(Recipe.collect([])))


def layer(make: Callable[[Path], dict[str, Any]], key: str = "base-1") -> Layer:
    return Layer(key, "Debian packages", lambda root, _: make(root))


def quiet(_: str, __: float | None) -> None:
    pass


def one_file(root: Path) -> dict[str, Any]:
    (root / "file").write_text("content")
    return {"packages": {"a": "1"}}


def test_a_layer_is_built_once_and_its_record_kept() -> None:
    assert store.ensure(layer(one_file), quiet)
    assert not store.ensure(layer(lambda _: pytest.fail("built twice")), quiet)
    assert store.record("base-1")["packages"] == {"a": "1"}
    image = store.save("abc", ["base-1"])
    assert image == store.find("abc")
    assert (image.layers[0] / "file").read_text() == "content"


def test_two_builds_at_once_build_once_and_one_says_that_it_waits() -> None:
    begun, finish = threading.Event(), threading.Event()
    said: list[str] = []
    built: list[bool] = []

    def slow(root: Path) -> dict[str, Any]:
        begun.set()
        assert finish.wait(30)
        return one_file(root)

    def tell(detail: str, _: float | None) -> None:
        said.append(detail)
        finish.set()

    first = threading.Thread(target=lambda: built.append(store.ensure(layer(slow), quiet)))
    first.start()
    assert begun.wait(30)
    built.append(store.ensure(layer(one_file), tell))
    first.join(30)
    assert sorted(built) == [False, True]
    assert said == [f"waiting for process {os.getpid()}, which builds the same"]


def test_waiting_for_another_build_has_an_end() -> None:
    folder = store.images_folder()
    folder.mkdir(parents=True)
    with (folder / ".base-1.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("4711")
        held.flush()
        with pytest.raises(TimedOut, match="process 4711"):
            store.ensure(layer(one_file), quiet, lock_limit=0.2)


def test_what_an_interrupted_build_left_is_removed_by_the_next() -> None:
    left = store.images_folder() / ".base-1.building" / "root"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    store.ensure(layer(one_file), quiet)
    assert not left.exists()
    assert not (store.images_folder() / "base-1" / "root" / "half").exists()


def test_a_failed_build_leaves_nothing_but_its_lock() -> None:
    def fail(root: Path) -> dict[str, Any]:
        (root / "half").write_text("")
        raise StepFailed("no packages", output="E: unable to fetch")

    with pytest.raises(StepFailed, match="no packages"):
        store.ensure(layer(fail), quiet)
    assert [path.name for path in store.images_folder().iterdir()] == [".base-1.lock"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        StepFailed("mmdebstrap failed", output="E: write: 28: No space left on device"),
    ],
)
def test_a_full_disk_is_called_by_its_name(error: Exception) -> None:
    def fail(_: Path) -> dict[str, Any]:
        raise error

    with pytest.raises(StepFailed, match="disk is full") as caught:
        store.ensure(layer(fail), quiet)
    assert caught.value.where == str(store.images_folder())
    assert "XDG_CACHE_HOME" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "{}", '{"layers": ["base-gone"]}'])
def test_an_image_that_is_not_whole_is_not_found(content: str) -> None:
    store.images_folder().mkdir(parents=True)
    (store.images_folder() / "abc.json").write_text(content)
    with pytest.raises(NotFound):
        store.find("abc")


def test_the_list_of_layers_is_readable() -> None:
    store.ensure(layer(one_file), quiet)
    store.save("abc", ["base-1"])
    content = json.loads((store.images_folder() / "abc.json").read_text())
    assert content == {"layers": ["base-1"]}


def test_mounts_are_found_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "größe a\\b"
    written = str(folder).replace("\\", r"\134").replace(" ", r"\040")
    lines = [f"1 2 0:3 / {place} rw - tmpfs tmpfs rw" for place in (f"{written}/in", "/else")]
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes("\n".join(lines).encode() + b"\n4 2 0:3 / /\xff rw - tmpfs tmpfs rw\n")
    assert store._mounts_under(folder, mounts) == [folder / "in"]


def test_what_is_put_into_the_base_can_be_read_whatever_the_umask(tmp_path: Path) -> None:
    for folder in ("etc/ssh", "etc/systemd/system", "root"):
        (tmp_path / folder).mkdir(parents=True)
    before = os.umask(0o077)
    try:
        base._settle(tmp_path)
        base._make_bootable(tmp_path, Recipe.collect([]))
    finally:
        os.umask(before)
    made = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*")}
    for name in base._FILES:
        assert made[name].stat().st_mode & 0o777 == 0o644, name
    for name in ("etc/systemd/journald.conf.d", "etc/default", "opt/continuum/data"):
        assert made[name].stat().st_mode & 0o777 == 0o755, name
    assert made["root/.ssh"].stat().st_mode & 0o777 == 0o700


SILENCE = {
    "apt": "E: Failed to fetch http://x/InRelease  Temporary failure resolving 'x'",
    "apt, a port": "Could not connect to x:80 (10.0.0.1), connection timed out",
    "apt, no route": "Cannot initiate the connection to x:80 (::1). - connect (101: Network is "
    "unreachable)",
    "pip": "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': "
    "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'",
    "pip, quiet": "ERROR: Could not find a version that satisfies x==1 (from versions: none)",
}


@pytest.mark.parametrize("said", SILENCE.values(), ids=SILENCE)
def test_python_packages_that_cannot_be_reached_are_exit_3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str
) -> None:
    program = tmp_path / "python"
    words = said.replace("'", "")
    program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(NotPossibleHere) as caught:
        build.install_python(("x==1",), tmp_path / "target", "3.11", tmp_path, lambda *_: None)
    assert "x==1" in caught.value.where
    assert words in caught.value.output
    assert "artifacts export FILE --for EXPERIMENT" in caught.value.hint


@pytest.mark.parametrize(
    "said", ["ERROR: No matching distribution (from versions: 1.0, 1.1)", "E: Broken packages", ""]
)
def test_other_failures_are_not_taken_for_silence(said: str) -> None:
    assert not sources.is_unreachable(said)


def test_all_that_cannot_be_had_is_told_at_once(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "read", lambda: sources.HostSources("debian", "x", "amd64", ()))
    assert host
    prepared: list[str] = []

    def tree(name: str, *, there: bool) -> Tree:
        def prepare(_: Events) -> None:
            prepared.append(name)
            if not there:
                raise NotPossibleHere(f"no {name}", output=f"tried {name}", hint="import")

        return Tree(name, name, lambda *_: None, prepare)

    steps = (tree("axe", there=False), tree("nail", there=True), tree("saw", there=False))
    with pytest.raises(NotPossibleHere) as caught:
        build.build(Recipe.collect(steps), Events())
    assert prepared == ["axe", "nail", "saw"]
    assert caught.value.message == "no axe\nno saw"
    assert caught.value.output == "tried axe\ntried saw"
