"""Every file of the original's corpus has the verdict that is pinned beside this module.

The corpus is not part of this repository: it is read where it lies.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from continuum.errors import InvalidExperiment
from continuum.experiment.load import load
from continuum.experiment.write import to_toml

ROOT = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("CONTINUUM_CORPUS") or ROOT.parent / "shared" / "continuum-1.x")
PINNED = Path(__file__).with_name("corpus_verdicts.json")
ADVICE = "run CONTINUUM_UPDATE_FILES=1 python -m pytest tests/unit/test_corpus.py"

pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(),
    reason=f"the corpus of Continuum 1.x is not at {CORPUS}; CONTINUUM_CORPUS can name its folder",
)


def verdict(path: Path, provider: str | None = None) -> list[str]:
    """`accepted`, or `not runnable here` or `refused` and all the reasons, each to its bracket."""
    try:
        loaded = load(path, provider=provider)
    except InvalidExperiment as error:
        return ["refused", *(problem.message for problem in error.problems)]
    if not loaded.not_runnable:
        return ["accepted"]
    return ["not runnable here", *(reason.partition(" (")[0] for reason in loaded.not_runnable)]


def files() -> list[Path]:
    return sorted(CORPUS.rglob("*.cfg"))


def test_every_file_has_its_verdict() -> None:
    found = {str(path.relative_to(CORPUS)): verdict(path) for path in files()}
    if os.environ.get("CONTINUUM_UPDATE_FILES"):
        lines = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in found.items()]
        PINNED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert found == json.loads(PINNED.read_text()), ADVICE


def test_no_file_is_refused() -> None:
    verdicts = json.loads(PINNED.read_text()).values()
    assert not [each for each in verdicts if each[0] == "refused"]


def test_what_needs_no_manager_runs_on_containers() -> None:
    """Mist, endpoints alone, machines alone; and all that is refused is refused as before."""
    runnable = 0
    for path in files():
        before, after = verdict(path), verdict(path, provider="lxc")
        if before[0] == "refused" or after[0] == "refused":
            assert before == after
        elif all("provider" in reason or "has no value" in reason for reason in before[1:]):
            assert after == ["accepted"], path
            runnable += 1
        else:
            assert after[0] == "not runnable here"
    assert runnable >= 14


def test_every_file_that_is_read_can_be_written_as_toml_and_read_again(tmp_path: Path) -> None:
    for path in files():
        if verdict(path)[0] == "refused":
            continue
        experiment = load(path).experiment
        copy = tmp_path / "copy.toml"
        copy.write_text(to_toml(experiment))
        assert load(copy).experiment == experiment
