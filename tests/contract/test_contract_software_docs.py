"""The plug-ins in the documentation hold the contracts, by the tests that stand beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from doc_files import DOCS, write_files_of


@pytest.mark.parametrize(
    ("page", "tests"), [("write-your-own-service.md", 6), ("write-your-own-manager.md", 5)]
)
def test_the_example_passes_its_own_test(page: str, tests: int, tmp_path: Path) -> None:
    paths = write_files_of(page, tmp_path)
    (module,) = (path for path in paths if path.startswith("test_"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"]
    ended = subprocess.run(
        [*command, "-W", "error", f"--rootdir={tmp_path}", module],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert f"{tests} passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize("role", ["redis", "scheduler"])
def test_ansible_understands_the_role(role: str, tmp_path: Path) -> None:
    page = {"redis": "write-your-own-service.md", "scheduler": "write-your-own-manager.md"}[role]
    write_files_of(page, tmp_path)
    playbook = tmp_path / "my_plugin" / "playbook.yml"
    playbook.write_text(f"- hosts: all\n  roles:\n    - {role}\n")
    program = Path(sys.executable).with_name("ansible-playbook")
    ended = subprocess.run(
        [program, "--syntax-check", "-i", "localhost,", playbook],
        env={"PATH": "/usr/bin:/bin", "ANSIBLE_HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
