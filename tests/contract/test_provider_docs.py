"""The provider in the documentation holds the contract, by the test that stands beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from doc_files import DOCS, write_files_of


def test_the_example_passes_the_contract_test(tmp_path: Path) -> None:
    module = next(
        path
        for path in write_files_of("write-your-own-provider.md", tmp_path)
        if path.startswith("test_")
    )
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
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "15 passed" in ended.stdout
