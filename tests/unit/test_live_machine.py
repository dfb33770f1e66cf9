"""What is put on a machine that existed before comes off it again, whatever happened meanwhile."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from continuum.infrastructure.links import namespaces, places
from continuum.infrastructure.providers.ssh import remote
from continuum_runtime import live_machine

OURS = {"identity": "0a0b0c0d"}
CLAIM = {
    **OURS,
    "deployment": "field",
    "name": "edge-1",
    "device": "eth7",
    "fingerprint": "one",
    "units": ["broker.service", "new.service"],
    "sysctl": ["net.ipv4.some", "net.ipv4.none"],
}
SETTLE = {
    **OURS,
    "fingerprint": "one",
    "trees": ["runtime", "unit"],
    "enable": ["broker.service", "new.service"],
    "disable": [],
    "names": "10.0.0.2 edge-1\n",
}
FILES = {
    "opt/continuum/runtime/program.py": "print()",
    "etc/systemd/system/broker.service.d/continuum.conf": "ours",
    "etc/broker/main.conf": "ours",
}
GRAPH = {"etc/systemd/system/graph.service": "ours", "opt/graph/program": "ours"}
SAVED = """\
*raw
:PREROUTING ACCEPT [0:0]
:CONTINUUM-LINKS - [0:0]
-A PREROUTING -i eth7 -j CONTINUUM-LINKS
-A CONTINUUM-LINKS -s 10.0.0.3/32 -j NFQUEUE --queue-num 1000
COMMIT
"""


class Programs:
    """Stands for the programs of the machine: what was run, and what some of them say."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.stopped_whole: list[str] = []
        self.input: dict[tuple[str, ...], str] = {}
        self.says = {
            ("systemctl", "is-enabled", "broker.service"): "enabled",
            ("systemctl", "is-active", "broker.service"): "active",
            ("systemctl", "is-enabled", "new.service"): "Failed to get unit file state",
            ("systemctl", "is-active", "new.service"): "inactive",
            ("iptables-save", "-t", "raw"): SAVED,
            ("tc", "-json", "qdisc", "show", "dev", "eth7"): json.dumps(
                [{"kind": "htb", "handle": "1:", "root": True}]
            ),
        }

    def __call__(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        self.calls.append(arguments)
        self.input[arguments] = text
        if arguments[:2] == ("systemctl", "stop"):
            unit = arguments[2]
            if (live_machine.ETC / "systemd/system" / unit).exists():
                self.stopped_whole.append(unit)
        return subprocess.CompletedProcess(arguments, 0, self.says.get(arguments, ""), "")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """A machine whose root is a folder, with files of its own."""
    found = Programs()
    root = tmp_path / "machine"
    for path, text in {
        "etc/hosts": "127.0.0.1 localhost",
        "etc/broker/main.conf": "theirs",
        "etc/broker/continuum.old": "theirs",
        "proc/sys/net/ipv4/some": "1",
        "var/lib/broker": "theirs",
        "opt/other/file": "theirs",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    state = root / "var/lib/continuum"
    for name, value in {
        "run": found,
        "ROOT": root,
        "STATE_FOLDER": state,
        "SOFTWARE_FOLDER": root / "opt/continuum",
        "RECORD": state / "machine.json",
        "KEPT_FOLDER": state / "kept",
        "HOSTS": root / "etc/hosts",
        "ETC": root / "etc",
        "sysctl_file": lambda name: root / "proc/sys" / name.replace(".", "/"),
    }.items():
        monkeypatch.setattr(live_machine, name, value)
    return found


def contents() -> dict[str, str]:
    root = live_machine.ROOT
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
    }


def archive(files: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as found:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o644
            found.addfile(member, io.BytesIO(text.encode()))
    return packed.getvalue()


def place(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes,
    key: str = "k1",
    traces: tuple[str, ...] = (),
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    live_machine.place({**OURS, "name": name, "key": key, "traces": traces})


def read() -> dict[str, Any]:
    found = live_machine.read_record()
    assert found is not None
    return found


@pytest.mark.usefixtures("programs")
def test_everything_comes_and_goes(monkeypatch: pytest.MonkeyPatch, programs: Programs) -> None:
    before = contents()
    assert live_machine.claim(CLAIM) == {"whole": False, "trees": {}}
    place(monkeypatch, "unit", archive(dict(list(FILES.items())[1:])))
    place(monkeypatch, "runtime", archive(dict(list(FILES.items())[:1])))
    assert live_machine.settle(SETTLE) == {"changed": True}
    now = contents()
    assert {path: now[path] for path in FILES} == FILES
    assert now["etc/hosts"].startswith("127.0.0.1 localhost\n# continuum")
    assert "10.0.0.2 edge-1\n" in now["etc/hosts"]
    # The same once more changes nothing.
    assert live_machine.claim(CLAIM) == {"whole": True, "trees": {"unit": "k1", "runtime": "k1"}}
    assert live_machine.settle(SETTLE) == {"changed": False}
    assert contents() == now
    # What services and workers write, and the kernel was told.
    (live_machine.ETC / "broker/continuum.conf").write_text("written by a role")
    (live_machine.STATE_FOLDER / "run").mkdir()
    live_machine.sysctl_file("net.ipv4.some").write_text("0")
    programs.calls.clear()
    assert live_machine.release_machine(OURS) == {"released": True}
    after = contents()
    assert after.pop("etc/hosts") == before.pop("etc/hosts") + "\n"
    assert after == before
    assert ("systemctl", "restart", "broker.service") in programs.calls
    assert ("systemctl", "disable", "new.service") in programs.calls
    assert ("systemctl", "stop", "new.service") in programs.calls
    assert ("systemctl", "disable", "broker.service") not in programs.calls
    assert ("tc", "qdisc", "del", "dev", "eth7", "root") in programs.calls
    undone = programs.input["iptables-restore", "--noflush"]
    assert "-D PREROUTING -i eth7 -j CONTINUUM-LINKS\n-F CONTINUUM-LINKS\n" in undone
    assert live_machine.release_machine(OURS) == {"released": False}


@pytest.mark.usefixtures("programs")
def test_folders_that_services_made_come_off_too() -> None:
    """Also with files of such a name in them; of links only the link goes."""
    theirs = live_machine.ETC / "theirs/continuum.d"
    theirs.mkdir(parents=True)
    (theirs / "file").write_text("theirs")
    before = contents()
    live_machine.claim(CLAIM)
    mirror = live_machine.ETC / "containerd/continuum.local"
    mirror.mkdir(parents=True)
    (mirror / "hosts.toml").write_text("written by a role")
    (mirror / "continuum.toml").write_text("written by a role")
    (live_machine.ETC / "continuum.link").symlink_to(live_machine.ETC / "broker")
    assert live_machine.release_machine(OURS) == {"released": True}
    mirror.parent.rmdir()
    assert contents() == before


def bring_graph(monkeypatch: pytest.MonkeyPatch, key: str = "k1") -> None:
    """A tree with a unit of its own, and what the unit writes."""
    traces = ("/etc/ours/graph", "/etc/ours/graph.json", "/var/lib/graph/*", "/var/lib/theirs/*")
    place(monkeypatch, "graph", archive(GRAPH), key, traces)
    for path in ("etc/ours/graph/password", "etc/ours/graph.json", "var/lib/graph/data/1"):
        (live_machine.ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (live_machine.ROOT / path).write_text("written by a unit")


@pytest.fixture
def packages(programs: Programs) -> Programs:
    """Folders that packages brought; one is in use."""
    for name in ("graph", "theirs"):
        (live_machine.ROOT / "var/lib" / name).mkdir(parents=True)
    (live_machine.ROOT / "var/lib/theirs/data").write_text("theirs")
    programs.says["systemctl", "is-active", "graph.service"] = "inactive"
    return programs


def test_units_of_trees_stop_while_they_are_there_and_their_traces_go(
    monkeypatch: pytest.MonkeyPatch, packages: Programs
) -> None:
    before = contents()
    live_machine.claim(CLAIM)
    bring_graph(monkeypatch)
    # Another version in its place has the same traces.
    bring_graph(monkeypatch, "k2")
    live_machine.settle({**SETTLE, "trees": ["graph"], "names": ""})
    assert packages.stopped_whole == []
    live_machine.release_machine(OURS)
    assert packages.stopped_whole == ["graph.service"]
    assert contents() == before


def test_what_is_wanted_no_more_is_as_it_was_before(
    monkeypatch: pytest.MonkeyPatch, packages: Programs
) -> None:
    before = contents()
    live_machine.claim(CLAIM)
    bring_graph(monkeypatch)
    live_machine.settle({**SETTLE, "trees": ["graph"], "names": ""})
    packages.calls.clear()
    live_machine.claim({**CLAIM, "fingerprint": "two"})
    less = {**SETTLE, "fingerprint": "two", "names": "", "enable": []}
    assert live_machine.settle({**less, "trees": ["graph"]}) == {"changed": True}
    assert ("systemctl", "disable", "new.service") in packages.calls
    assert ("systemctl", "stop", "new.service") in packages.calls
    assert ("systemctl", "enable", "broker.service") in packages.calls
    assert ("systemctl", "restart", "broker.service") in packages.calls
    assert list(read()["units"]) == ["graph.service"]
    assert packages.stopped_whole == []
    # Then the tree with its unit.
    assert live_machine.settle({**less, "trees": []}) == {"changed": True}
    assert packages.stopped_whole == ["graph.service"]
    assert read()["units"] == read()["trees"] == {}
    after = contents()
    assert {path for path in after if path not in before} == {
        "var/lib/continuum",
        "var/lib/continuum/machine.json",
    }
    assert live_machine.settle({**less, "trees": []}) == {"changed": False}


def test_a_unit_that_a_tree_took_the_place_of_runs_again(
    monkeypatch: pytest.MonkeyPatch, packages: Programs
) -> None:
    unit = live_machine.ETC / "systemd/system/graph.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("theirs")
    packages.says["systemctl", "is-enabled", "graph.service"] = "enabled"
    packages.says["systemctl", "is-active", "graph.service"] = "active"
    live_machine.claim(CLAIM)
    bring_graph(monkeypatch)
    live_machine.release_machine(OURS)
    assert unit.read_text() == "theirs"
    assert ("systemctl", "restart", "graph.service") in packages.calls
    assert ("systemctl", "disable", "graph.service") not in packages.calls


@pytest.mark.usefixtures("programs")
def test_what_was_interrupted_comes_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents()
    live_machine.claim(CLAIM)
    whole = archive(FILES | {"etc/broker/large": "x" * 100_000})
    with pytest.raises((EOFError, tarfile.TarError)):
        place(monkeypatch, "unit", whole[: len(whole) - 20])
    assert contents()["etc/broker/main.conf"] == "ours"
    assert live_machine.claim(CLAIM) == {"whole": False, "trees": {}}
    live_machine.release_machine(OURS)
    assert contents() == before


@pytest.mark.usefixtures("programs")
def test_another_tree_takes_the_place_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    live_machine.claim(CLAIM)
    place(monkeypatch, "unit", archive(FILES))
    place(monkeypatch, "unit", archive({"etc/broker/other.conf": "ours"}), key="k2")
    now = contents()
    assert now["etc/broker/main.conf"] == "theirs"
    assert now["etc/broker/other.conf"] == "ours"
    assert "opt/continuum" not in now
    live_machine.settle({**SETTLE, "trees": []})
    assert "etc/broker/other.conf" not in contents()


def test_a_machine_that_another_uses_is_left_alone(
    programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    live_machine.claim(CLAIM)
    before = contents()
    programs.calls.clear()
    other = {**CLAIM, "identity": "ffffffff", "deployment": "other"}
    for verb in (live_machine.claim, live_machine.settle, live_machine.release_machine):
        with pytest.raises(SystemExit) as raised:
            verb({**SETTLE, **other})
        assert raised.value.code == live_machine.TAKEN == remote.TAKEN
        assert json.loads(capsys.readouterr().out) == {"taken_by": "field"}
    assert contents() == before
    assert programs.calls == []
    assert read()["identity"] == "0a0b0c0d"


@pytest.mark.usefixtures("programs")
def test_folders_that_would_go_with_us_are_told() -> None:
    assert live_machine.folders_of_ours() == []
    live_machine.STATE_FOLDER.mkdir()
    assert live_machine.folders_of_ours() == []
    (live_machine.STATE_FOLDER / "file").touch()
    live_machine.SOFTWARE_FOLDER.write_text("a file")
    assert live_machine.folders_of_ours() == [
        live_machine.STATE_FOLDER,
        live_machine.SOFTWARE_FOLDER,
    ]


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "etc/../../outside"])
def test_nothing_is_written_outside(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    live_machine.claim(CLAIM)
    with pytest.raises(ValueError, match="may not hold"):
        place(monkeypatch, "unit", archive({name: "x"}))


@pytest.mark.usefixtures("programs")
def test_names_change_and_go() -> None:
    for names in ("10.0.0.2 edge-1\n10.0.0.3 edge-2\n", "10.0.0.2 edge-1\n"):
        assert live_machine.set_names(names)
        assert not live_machine.set_names(names)
        assert live_machine.own_names() == names
    assert live_machine.set_names("")
    assert live_machine.HOSTS.read_text() == "127.0.0.1 localhost\n"


def test_the_program_runs_where_nothing_of_ours_is() -> None:
    """From standard input, as on a machine; this host stands for one, and is only looked at."""
    source = remote._source()
    ended = subprocess.run(
        [sys.executable, "-I", "-c", remote._LAUNCHER, "probe", "{}"],
        input=f"{len(source)}\n".encode() + source,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "SSH_CONNECTION": "192.0.2.1 50000 127.0.0.1 22"},
        check=True,
    )
    said = json.loads(ended.stdout)
    assert (said["client"], said["address"]) == ("192.0.2.1", "127.0.0.1")
    assert said["python"] == list(sys.version_info[:2])
    assert said["memory"] > 0


def test_names_are_those_that_links_use() -> None:
    """This program stands alone: what it takes away is named twice."""
    assert live_machine.LINKS_CHAIN == namespaces.CHAIN
    assert live_machine.LINKS_UNIT == places.UNIT


def test_old_pythons_can_read_it() -> None:
    oldest = remote.OLDEST_PYTHON
    folder = Path(live_machine.__file__).parent
    # What nodes of a cluster run is not brought to machines that existed before.
    for path in set(folder.glob("*.py")) - {folder / "edge_node.py"}:
        ast.parse(path.read_text(), feature_version=oldest)
