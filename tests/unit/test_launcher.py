"""The launcher, with a project that depends on nothing, so that its environment is quick to make."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

LOCK = "# nothing is needed\n"

MAIN = """\
import os, sys
print(sys.prefix, *sys.argv[1:], sep="|")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the environment of `LOCK` has been made."""
    folder = tmp_path_factory.mktemp("made")
    clone = _clone(folder / "clone")
    _run(clone, cache=folder / "cache")
    return folder / "cache"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    return _clone(tmp_path / "clone")


def _clone(folder: Path) -> Path:
    """What the launcher needs of a clone, with a program that tells how it was started."""
    cli = folder / "src/continuum/cli"
    cli.mkdir(parents=True)
    shutil.copy(ROOT / "continuum", folder)
    shutil.copy(ROOT / "src/continuum/environment.py", cli.parent)
    for name in ("launch.sh", "bootstrap.py"):
        shutil.copy(ROOT / "src/continuum/cli" / name, cli)
    (folder / "src/continuum/__init__.py").write_text("")
    (folder / "src/continuum/__main__.py").write_text(MAIN)
    (folder / "requirements.lock").write_text(LOCK)
    return folder


def _environment(cache: Path, extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept.pop("CONTINUUM_PYTHON", None)
    return {**kept, "XDG_CACHE_HOME": str(cache), **extra}


def _run(
    clone: Path, *arguments: str, cache: Path, program: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program or clone / "continuum"), *arguments],
        env=_environment(cache, extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_first_use_makes_an_environment_and_says_so(clone: Path, tmp_path: Path) -> None:
    first = _run(clone, "status", "two words", cache=tmp_path / "cache")
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith("|status|two words\n")
    assert first.stdout.startswith(str(tmp_path / "cache/continuum/environments"))
    assert "making Continuum's environment" in first.stderr
    assert "is ready" in first.stderr
    second = _run(clone, "status", "two words", cache=tmp_path / "cache")
    assert second.stdout == first.stdout
    assert not second.stderr


def test_clones_with_the_same_dependencies_share_it(clone: Path, made: Path) -> None:
    (clone / "requirements.lock").write_text(f"{LOCK}# made again\n")
    ending = _run(clone, cache=made)
    assert ending.returncode == 0
    assert not ending.stderr


def test_other_dependencies_have_one_of_their_own(clone: Path, made: Path) -> None:
    here = _run(clone, cache=made).stdout
    # What the marker leaves out is not looked for.
    left_out = f"none==1 ; python_version < '3' --hash=sha256:{'0' * 64}\n"
    (clone / "requirements.lock").write_text(left_out)
    ending = _run(clone, cache=made)
    assert "making Continuum's environment" in ending.stderr
    assert ending.stdout != here


def test_an_environment_that_was_not_finished_is_made_again(
    clone: Path, made: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(made, cache, symlinks=True)
    for pointer in (cache / "continuum/environments/for").iterdir():
        pointer.write_text(pointer.read_text().replace(str(made), str(cache)))
    environment = Path(_run(clone, cache=cache).stdout.strip())
    (environment / "complete").unlink()
    (environment / "bin/python").unlink()
    ending = _run(clone, cache=cache)
    assert ending.returncode == 0, ending.stderr
    assert "making Continuum's environment" in ending.stderr


def test_two_first_uses_at_once_make_it_once(clone: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [
        subprocess.Popen(
            [str(clone / "continuum")],
            env=_environment(cache, {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    endings = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert endings[0][0] == endings[1][0]
    told = "".join(stderr for _, stderr in endings)
    assert told.count("making Continuum's environment (once") == 1
    assert told.count("which makes Continuum's environment") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_first_use_is_done_again(
    clone: Path, tmp_path: Path, number: signal.Signals
) -> None:
    cache = tmp_path / "cache"
    process = subprocess.Popen(
        [str(clone / "continuum")],
        env=_environment(cache, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while not list((cache / "continuum/environments").glob("*/bin")):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, number)
        process.communicate(timeout=60)
    assert process.returncode != 0
    ending = _run(clone, cache=cache)
    assert ending.returncode == 0, ending.stderr
    assert "making Continuum's environment" in ending.stderr


def test_what_pip_cannot_install_is_told_with_its_words(clone: Path, tmp_path: Path) -> None:
    (clone / "requirements.lock").write_text("not a requirement\n")
    ending = _run(clone, cache=tmp_path / "cache")
    assert ending.returncode == 3
    assert "pip could not install what Continuum needs" in ending.stderr
    assert "    ERROR: Invalid requirement" in ending.stderr
    assert "what to do: pip takes packages from" in ending.stderr
    assert "Traceback" not in ending.stderr
    assert not list((tmp_path / "cache/continuum/environments").glob("*/"))[1:]


def _index(folder: Path, content: str) -> str:
    """A folder with one wheel of a package called `tool`; returns the wheel's SHA-256."""
    folder.mkdir(exist_ok=True)
    path = folder / "tool-1.0-py3-none-any.whl"
    told = "tool-1.0.dist-info"
    files = {
        "tool.py": content,
        f"{told}/METADATA": "Metadata-Version: 2.1\nName: tool\nVersion: 1.0\n",
        f"{told}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{told}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)  # all of one time
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_package_that_is_not_the_one_of_the_lock_is_refused(clone: Path, tmp_path: Path) -> None:
    total = _index(tmp_path / "wheels", "first = 1\n")
    (clone / "requirements.lock").write_text(f"tool==1.0 \\\n    --hash=sha256:{total}\n")
    wheels = str(tmp_path / "wheels")
    _index(tmp_path / "wheels", "changed = 1\n")
    ending = _run(clone, cache=tmp_path / "cache", PIP_NO_INDEX="1", PIP_FIND_LINKS=wheels)
    assert ending.returncode == 3
    assert "DO NOT MATCH THE HASHES" in ending.stderr
    assert not list((tmp_path / "cache/continuum/environments").glob("*/bin"))
    assert _index(tmp_path / "wheels", "first = 1\n") == total
    ending = _run(clone, cache=tmp_path / "cache", PIP_NO_INDEX="1", PIP_FIND_LINKS=wheels)
    assert ending.returncode == 0, ending.stderr


def test_a_package_without_a_sum_is_refused(clone: Path, tmp_path: Path) -> None:
    _index(tmp_path / "wheels", "first = 1\n")
    (clone / "requirements.lock").write_text("tool==1.0\n")
    wheels = str(tmp_path / "wheels")
    ending = _run(clone, cache=tmp_path / "cache", PIP_NO_INDEX="1", PIP_FIND_LINKS=wheels)
    assert ending.returncode == 3
    assert "--require-hashes" in ending.stderr


def test_a_clone_without_its_lock_says_so(clone: Path, tmp_path: Path) -> None:
    (clone / "requirements.lock").unlink()
    ending = _run(clone, cache=tmp_path / "cache")
    assert ending.returncode == 3
    assert "requirements.lock" in ending.stderr


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_the_locks_have_what_the_project_asks_for_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    if "test" in name:
        wanted += project["dependency-groups"]["test"]
    entries = text.replace("\\\n", " ").splitlines()
    locked: dict[str, list[str]] = {}
    for entry in entries:
        if entry.startswith("#"):
            continue
        requirement, *sums = entry.split(" --hash=")
        package, _, version = requirement.partition(";")[0].strip().partition("==")
        assert sums, entry
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in sums), entry
        locked.setdefault(package, []).append(version)
    for each in map(Requirement, wanted):
        found = locked[canonicalize_name(each.name)]
        assert all(each.specifier.contains(version) for version in found), each
    assert "://" not in text
    assert "index" not in text


def test_both_locks_have_the_same_versions() -> None:
    first, second = (
        set(re.findall(r"(?m)^\S+==\S+", (ROOT / name).read_text()))
        for name in ("requirements.lock", "requirements-test.lock")
    )
    assert first <= second


def test_a_cache_that_cannot_be_written_is_told(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    ending = _run(clone, cache=tmp_path / "cache")
    assert ending.returncode == 3
    assert "cannot make Continuum's environment" in ending.stderr
    assert "XDG_CACHE_HOME" in ending.stderr


def test_without_a_python_that_is_new_enough_it_says_so(
    clone: Path, made: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    ending = _run(clone, cache=made, CONTINUUM_PYTHON=str(old))
    assert ending.returncode == 3
    assert "is not a Python 3.11 or newer" in ending.stderr


def test_another_python_can_be_asked_for(clone: Path, made: Path) -> None:
    ending = _run(clone, cache=made, CONTINUUM_PYTHON=os.path.realpath(sys.executable))
    assert ending.returncode == 0, ending.stderr


def test_it_can_be_called_by_a_link_and_from_anywhere(
    clone: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "bin" / "continuum"
    link.parent.mkdir()
    link.symlink_to(clone / "continuum")
    monkeypatch.chdir("/")
    assert _run(clone, "status", cache=made, program=link).stdout.endswith("|status\n")
    monkeypatch.chdir(clone)
    ending = subprocess.run(
        ["sh", "continuum", "status"],
        env=_environment(made, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ending.stdout.endswith("|status\n")


def test_what_lies_in_the_callers_folder_is_not_imported(
    clone: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = (
        "import os, json, subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import csv'])\n"
    )
    (clone / "src/continuum/__main__.py").write_text(main)
    for name in ("continuum", "json", "csv"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    ending = _run(clone, cache=made)
    assert ending.returncode == 0, ending.stderr
    assert not ending.stderr


def test_the_folders_are_the_callers_after_sudo(clone: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can stand behind sudo")
    (clone / "src/continuum/__main__.py").write_text("import os\nprint(os.environ['HOME'])\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    # Whatever the caller is called here, this is what the host knows of him.
    (programs / "getent").write_text(f"#!/bin/sh\necho 'someone:x:65534:65534::{home}:/bin/sh'\n")
    (programs / "getent").chmod(0o755)
    os.chown(home, 65534, 65534)
    for folder in (clone, *clone.rglob("*"), tmp_path, *tmp_path.parents):
        if folder.is_relative_to(Path("/tmp")) and folder != Path("/tmp"):  # noqa: S108  pytest's own
            folder.chmod(folder.stat().st_mode | 0o055)
    environment = _environment(tmp_path, {"SUDO_USER": "someone", "HOME": "/root"})
    environment |= {"SUDO_UID": "65534", "SUDO_GID": "65534"}
    # One that the other user may run: root's own may lie in root's home.
    environment["CONTINUUM_PYTHON"] = "/usr/bin/python3"
    environment["PATH"] = f"{programs}:{environment['PATH']}"
    del environment["XDG_CACHE_HOME"]
    ending = subprocess.run(
        [str(clone / "continuum")],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ending.stdout == f"{home}\n", ending.stderr
    (environments,) = home.glob(".cache/continuum/environments")
    assert {path.stat().st_uid for path in environments.rglob("*") if not path.is_symlink()} == {
        65534
    }


def test_what_other_tools_read_from_the_environment_does_not_hinder_it(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('the wrong one')")
    # As hosts are set up that install into users' own folders by default.
    (tmp_path / "pip.conf").write_text(f"[install]\nuser = true\ntarget = {tmp_path}/elsewhere\n")
    monkeypatch.chdir(tmp_path)
    (clone / "src/continuum/__main__.py").write_text(
        "import os, sys\nprint(sys.flags.optimize, sys.path[0], os.environ.get('CDPATH'))\n"
    )
    odd = {
        "CDPATH": f"{tmp_path}:/tmp",
        "BASH_ENV": "/nowhere",
        "ENV": "/nowhere",
        "PYTHONHOME": "/nowhere",
        "PYTHONPATH": str(tmp_path),
        "PYTHONSTARTUP": "/nowhere",
        "PYTHONOPTIMIZE": "2",
        "PYTHONHASHSEED": "none",
        "PYTHONMALLOC": "none",
        "PYTHONIOENCODING": "none",
        "PIP_USER": "1",
        "PIP_TARGET": str(tmp_path / "target"),
        "PIP_PREFIX": str(tmp_path / "prefix"),
        "PIP_REQUIRE_VIRTUALENV": "1",
        "PIP_REQUIRE_HASHES": "1",
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
    }
    # A wheel that is at hand, so that pip has something to install.
    wheel = _wheel(tmp_path)
    total = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (clone / "requirements.lock").write_text(f"odd @ file://{wheel} --hash=sha256:{total}\n")
    ending = _run(clone, cache=tmp_path / "cache", program=Path("clone/continuum"), **odd)
    assert ending.returncode == 0, ending.stderr
    assert ending.stdout == f"0 {clone}/src None\n"
    assert list((tmp_path / "cache").glob("continuum/environments/*/lib/*/site-packages/odd.py"))
    assert not (tmp_path / "elsewhere").exists()


def _wheel(folder: Path) -> Path:
    path = folder / "odd-1-py3-none-any.whl"
    facts = "odd-1.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("odd.py", "")
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr(f"{facts}/WHEEL", tags)
        archive.writestr(f"{facts}/RECORD", "")
    return path


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_the_null_device(
    clone: Path, made: Path, tmp_path: Path, closed: str
) -> None:
    told = tmp_path / "told"
    (clone / "src/continuum/__main__.py").write_text(
        "import os, sys\n"
        "links = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]\n"
        f"open({str(told)!r}, 'w').write(repr(links))\n"
        "sys.exit(None in (sys.stdin, sys.stdout, sys.stderr))\n"
    )
    ending = subprocess.run(
        ["sh", "-c", f"exec {clone}/continuum {closed}"],
        env=_environment(made, {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ending.returncode == 0
    links = literal_eval(told.read_text())
    for number, form in enumerate(("<&-", " >&-", "2>&-")):
        assert (form in f" {closed}") <= (links[number] == os.devnull)


def test_a_cache_folder_that_is_relative_counts_for_nothing(
    clone: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del made
    monkeypatch.chdir(tmp_path)
    ending = _run(clone, cache=Path("relative"), HOME=str(tmp_path / "home"))
    assert ending.returncode == 0, ending.stderr
    assert ending.stdout.startswith(str(tmp_path / "home/.cache/continuum/environments"))
    assert not (tmp_path / "relative").exists()


def test_a_clone_of_a_git_that_writes_carriage_returns_starts(clone: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitattributes", clone)
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org")
    for arguments in (
        ("init", "--quiet", str(clone)),
        ("-C", str(clone), "add", "."),
        ("-C", str(clone), "commit", "--quiet", "--message=x"),
        ("clone", "--quiet", "--config=core.autocrlf=true", str(clone), str(tmp_path / "x")),
    ):
        subprocess.run([*git, *arguments], check=True, timeout=60)
    for name in ("continuum", "src/continuum/cli/launch.sh"):
        assert b"\r" not in (tmp_path / "x" / name).read_bytes()
