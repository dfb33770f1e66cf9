"""Brings our programs in C in a wheel, compiled for each architecture that this host has a compiler for.

One that is left out is compiled by the host that needs it: see `continuum.native`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-static", "-pthread")


class CompiledPrograms(BuildHookInterface[Any]):
    """Adds `continuum_runtime/native/ARCHITECTURE/NAME` to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile each program."""
        if version == "editable":
            return
        self._made = Path(tempfile.mkdtemp())
        for architecture, compiler in COMPILERS.items():
            if shutil.which(compiler) is None:
                continue
            for source in sorted(Path(self.root, "src/continuum_runtime/native").glob("*.c")):
                made = self._made / f"{architecture}-{source.stem}"
                subprocess.run((compiler, *FLAGS, source, "-o", made, "-lm"), check=True)
                place = f"continuum_runtime/native/{architecture}/{source.stem}"
                build_data["force_include"][str(made)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Take what was compiled away again."""
        del build_data, artifact_path
        if version != "editable":
            shutil.rmtree(self._made)
