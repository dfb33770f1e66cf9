"""Samples that do not belong to the table of their `run.json`: the table is worked out anew from them."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

from continuum import plugins
from continuum.errors import ContinuumError
from continuum.experiment.units import trusted_numbers

if TYPE_CHECKING:
    import pyarrow as pa

    from continuum.benchmark.contract import Application
    from continuum.benchmark.results import Group, Run

SAMPLES = "samples"
"""The key of the samples' SHA-256 among a run's hashes."""


def digest(content: bytes) -> str:
    """SHA-256 of a file of samples, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def matched(run: Run, samples: pa.Table | None, sha256: str) -> Run:
    """The run with the table of just these samples, and a note where it had another one.

    Args:
        run: as `run.json` has it.
        samples: as they were read; None when there is no such file.
        sha256: of their file.
    """
    if samples is None:
        if SAMPLES not in run.hashes:
            return run
        return _noted(run, "samples.parquet is missing: figures are those that run.json keeps")
    differs = _difference(run, samples, sha256)
    if not differs:
        return run
    groups = _groups(run, samples)
    if groups is None:
        return _noted(
            run,
            f"samples.parquet does not belong to this run.json ({differs}), and its table could not "
            "be worked out anew: figures are those that run.json keeps, drawings those of the samples",
        )
    changed = run.model_copy(update={"table": groups, "unstalled": (), "stalled": 0})
    return _noted(
        changed,
        f"samples.parquet does not belong to this run.json ({differs}): the table was worked out anew "
        "from the samples; what is expected, loads and reasons are those that run.json keeps",
    )


def _noted(run: Run, sentence: str) -> Run:
    return run.model_copy(update={"notes": (sentence, *run.notes)})


def _difference(run: Run, samples: pa.Table, sha256: str) -> str:
    """The sign by which samples are told to be others; "" when they are the run's own."""
    known = run.hashes.get(SAMPLES)
    if known is not None and known != sha256:
        return "its SHA-256 is another"
    whole = run.all
    if whole is None:
        return "run.json has no table" if samples.num_rows and run.table else ""
    warmup = Counter(samples["warmup"].to_pylist())
    if warmup[True] != whole.warmup or warmup[False] != whole.samples:
        return f"it has {warmup[False]} {run.noun}s, run.json {whole.samples}"
    return ""


def _groups(run: Run, samples: pa.Table) -> tuple[Group, ...] | None:
    """The table of some samples; None when they are none that this run's application knows."""
    import pyarrow as pa  # noqa: PLC0415  slow to import

    from continuum.benchmark import statistics  # noqa: PLC0415  slow to import

    application = _application(run)
    quantities = statistics.QUANTITIES if application is None else application.quantities()
    benchmark = run.experiment.get("benchmark")
    waits = benchmark.get("answer_timeout") if isinstance(benchmark, dict) else None
    seconds = float(waits) if isinstance(waits, int | float) and run.noun == "request" else None
    try:
        return statistics.aggregate(samples, quantities=quantities, answer_timeout=seconds)
    except (ContinuumError, pa.ArrowException, ValueError, KeyError, TypeError, ArithmeticError):
        return None


def _application(run: Run) -> Application | None:
    """The run's application; None when it is not installed, or not known as it was."""
    benchmark = run.experiment.get("benchmark")
    if not isinstance(benchmark, dict):
        return None
    name, settings = benchmark.get("application"), benchmark.get("settings") or {}
    if not isinstance(name, str) or not isinstance(settings, dict):
        return None
    try:
        kind: type[Application] = plugins.load("applications", name)
        with trusted_numbers():
            return kind(kind.settings_type.model_validate(settings))
    except (ContinuumError, ValueError):
        return None
