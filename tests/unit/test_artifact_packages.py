"""Programs that come in packages, with an apt-get and a pip of the test's own."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from continuum.artifacts import first_use, packages
from continuum.artifacts.attempt import Unavailable
from continuum.artifacts.catalogue import Wanted
from continuum.images import isolated
from go_programs import quiet
from releases import use_catalogue

TOOL = """
[tool]
about = "a tool"
version = "v1.2.3"
programs = ["saw"]
sources = ["debian", "pypi"]

[tool.debian]
package = "saw-static"
file = "bin/saw"

[tool.pypi]
package = "saw-bin"
programs = ["saw"]
"""
SAW = Wanted("saw", "v1.2.3", "amd64")

# Without lists of packages of its own it knows no package.
APT = """\
#!/bin/sh
echo "$@" >> "{log}"
case "$*" in
*update*) exit 0 ;;
*Dir::State::lists*download*|*download*{known}*) ;;
*) echo "E: Unable to locate package saw-static" >&2; exit 100 ;;
esac
{download}
"""
PIP = '#!/bin/sh\necho "$@" > "{log}"\nfor word; do case "$word" in {to}) {then} ;; esac; done\n{end}\n'


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of PATH."""
    use_catalogue(monkeypatch, TOOL)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    return programs


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _apt(host: Path, *, known: str, file: str = "bin/saw") -> Path:
    """An apt-get that has the package; `known` is a word in commands that find it at once."""
    log = host.parent / "apt.log"
    name = "saw-static_1%3a2.0-1+b1_amd64.deb"
    _program(host / "apt-get", APT.format(log=log, known=known, download=f"touch '{name}'"))
    _program(
        host / "dpkg-deb",
        f'#!/bin/sh\nmkdir -p "$3/$(dirname {file})"\nprintf saw > "$3/{file}"\n',
    )
    return log


@pytest.mark.parametrize("file", ["bin/saw", "usr/bin/saw"])
@pytest.mark.parametrize(("known", "calls"), [("saw-static:amd64", 1), ("nothing", 3)])
def test_a_program_of_a_debian_package(
    host: Path, tmp_path: Path, known: str, calls: int, file: str
) -> None:
    log = _apt(host, known=known, file=file)
    work = tmp_path / "work"
    found, named = packages.from_debian(SAW, work, quiet)
    assert found.read_bytes() == b"saw"
    assert named == "saw-static 1:2.0-1+b1"
    assert list(work.iterdir()) == [found]
    assert len(log.read_text().splitlines()) == calls


def test_a_debian_package_that_cannot_be_had(host: Path, tmp_path: Path) -> None:
    _apt(host, known="nothing")
    _program(host / "apt-get", "#!/bin/sh\necho 'E: Unable to locate package' >&2\nexit 100\n")
    with pytest.raises(Unavailable) as caught:
        packages.from_debian(SAW, tmp_path / "work", quiet)
    assert caught.value.reason == "saw-static: Unable to locate package"
    silent = "E: Failed to fetch http://x/InRelease  Temporary failure resolving"
    _program(host / "apt-get", f"#!/bin/sh\necho '{silent}' >&2\nexit 100\n")
    with pytest.raises(Unavailable, match="no source that can be reached from here has it"):
        packages.from_debian(SAW, tmp_path / "work", quiet)
    _apt(host, known="saw-static:amd64", file="bin/axe")
    with pytest.raises(Unavailable, match=r"amd64\.deb has no bin/saw"):
        packages.from_debian(SAW, tmp_path / "work", quiet)


def test_a_host_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no apt-get"):
        packages.from_debian(SAW, tmp_path / "work", quiet)


def _pip(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    pip = folder / "python"
    _program(pip, text)
    monkeypatch.setattr(sys, "executable", str(pip))


def _wheel(folder: Path, name: str) -> Path:
    path = folder / "saw_bin-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"saw_bin/{name}", b"saw")
    return path


def test_a_program_of_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel, log, work = _wheel(tmp_path, "saw"), tmp_path / "log", tmp_path / "work"
    copies = f'cp "{wheel}" "${{word#--dest=}}"'
    _pip(monkeypatch, tmp_path, PIP.format(log=log, to="--dest=*", then=copies, end="exit 0"))
    found, named = packages.from_pypi(SAW, work, quiet)
    assert (found.read_bytes(), named) == (b"saw", wheel.name)
    assert list(work.iterdir()) == [found]
    words = log.read_text().split()
    assert {"saw-bin==1.2.3", "--platform=manylinux2014_x86_64", "--retries=0"} <= set(words)
    _wheel(tmp_path, "axe")
    changed = r"its SHA-256 is .* and was .* at its first use on .*, remove /"
    with pytest.raises(Unavailable, match=changed):
        packages.from_pypi(SAW, work, quiet)
    first_use.path_of(wheel.name).unlink()
    with pytest.raises(Unavailable, match=r"whl has no saw"):
        packages.from_pypi(SAW, work, quiet)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (
            "Could not find a version that satisfies the requirement x==1 (from versions: none)",
            "x==1: no index that can be reached from here has it",
        ),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", "x==1: THESE PACKAGES DO NOT MATCH THE HASHES"),
    ],
)
def test_what_pip_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, reason: str
) -> None:
    fails = f"echo 'ERROR: {says}' >&2; exit 1"
    _pip(
        monkeypatch, tmp_path, PIP.format(log=tmp_path / "log", to="never", then="exit", end=fails)
    )
    with pytest.raises(Unavailable) as caught:
        packages.wheel("x==1", tmp_path, quiet, "arm64")
    assert caught.value.reason == reason
    assert "--platform=manylinux_2_17_aarch64" in (tmp_path / "log").read_text().split()


def test_a_program_that_does_not_end_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "LIMIT", 0.2)
    plain = isolated.dying_with_us
    sleeping = ("sleep", "60")
    monkeypatch.setattr(
        isolated, "dying_with_us", lambda _, limit, folder: plain(sleeping, limit, folder)
    )
    with pytest.raises(Unavailable, match=r"no end within 0\.2 s"):
        packages.wheel("x==1", tmp_path, quiet)
