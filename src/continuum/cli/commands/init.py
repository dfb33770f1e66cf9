"""`continuum init [FILE]`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from continuum import folders
from continuum.cli import output
from continuum.cli.session import Session, common, current, json_option
from continuum.errors import UsageError
from continuum.secret import MASK

EXAMPLE = """\
# An experiment for Continuum: two endpoints send photos over 4G to an edge machine, which
# classifies them.
#
#   continuum validate FILE     is it right?
#   continuum plan FILE         what would be made?
#   continuum run FILE          machines, network, software, benchmark, report

name = "{name}"

# ── Machines ──────────────────────────────────────────────────────────────────────────────
# Every tier is a group of equal machines, called edge-1, edge-2, … Tiers may have any name.

[infrastructure]
provider = "lxc"            # system containers on this host; "fake" makes nothing at all
# internet = true           # give machines a way out to other networks

[tiers.edge]
machines = 1
cores = 2
quota = 0.75                # share of each core
memory = "2 GiB"

[tiers.endpoint]
machines = 2
cores = 1
quota = 0.5
memory = "1 GiB"

# ── Network ───────────────────────────────────────────────────────────────────────────────
# A preset for the tiers cloud, edge and endpoint: "4g", "5g" or "wired". Links written here
# override it: `between` sets both directions, `from` and `to` one.

[network]
preset = "4g"

# [[network.links]]
# between = ["edge", "endpoint"]
# delay = "7.5 ms"          # one way
# jitter = "2.5 ms"         # standard deviation
# loss = "0.1 %"
# rate = "7.21 Mbit/s"

# ── Software ──────────────────────────────────────────────────────────────────────────────
# Without this and the benchmark, machines and network are all that is made.

[software]
manager = "none"            # who places workers
execution_model = "process" # how a worker runs

# ── Benchmark ─────────────────────────────────────────────────────────────────────────────

[benchmark]
application = "image_classification"
workers = "edge"            # "endpoint": endpoints classify by themselves
frequency = "5 Hz"          # requests per second of each endpoint
warmup = "5 s"
duration = "20 s"
repetitions = 3             # figures get an interval over repetitions
"""


@click.command("init")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    metavar="FILE.cfg",
    type=click.Path(path_type=Path),
    help="Convert this experiment, of Continuum 1.x or a TOML file, instead.",
)
@click.option("--provider", metavar="NAME", help="With --from: the provider to write down.")
@click.option("--force", is_flag=True, help="Overwrite FILE if it is there.")
@json_option
@common
def command(
    *, file: Path | None, source: Path | None, provider: str | None, force: bool, as_json: bool
) -> int:
    """Write an experiment to start from: experiment.toml, or FILE.

    With --from an experiment of Continuum 1.x is written down as TOML, with the same meaning.

    Exit codes: 0 written; 2 the file is there already, or the experiment to convert is invalid.
    """
    session = current()
    if provider is not None and source is None:
        raise UsageError("--provider goes with --from")
    target = file or (Path(f"{source.stem}.toml") if source else Path("experiment.toml"))
    if target.suffix != ".toml":
        raise UsageError(f"{target} is not the name of a TOML file", hint=f"{target.stem}.toml")
    if target.is_dir() or (target.exists() and not force):
        raise UsageError(f"{target} is there already", hint="name another file, or give --force")
    text = _converted(session, source, provider) if source is not None else _example(target)
    folders.write_file(target, text)
    if as_json:
        output.write_json({"file": target})
        return 0
    session.say(f"wrote {target}")
    session.say(f"  check it:  continuum validate {target}")
    session.say(f"  run it:    continuum run {target}")
    return 0


def _example(target: Path) -> str:
    from continuum.experiment.load import name_from  # noqa: PLC0415  slow to import

    return EXAMPLE.format(name=name_from(target))


def _converted(session: Session, source: Path, provider: str | None) -> str:
    from continuum.experiment.load import load  # noqa: PLC0415  slow to import
    from continuum.experiment.write import to_toml  # noqa: PLC0415

    loaded = load(source, provider=provider, environment=os.environ)
    for note in (*loaded.notes, *(f"not runnable here: {why}" for why in loaded.obstacles)):
        session.events.note(note)
    head = f"# Converted from {source.name}.\n"
    text = to_toml(loaded.experiment, loaded.in_secret_files)
    if MASK in text:
        head += f"# Secrets are not copied: write them where {MASK} stands, or name files.\n"
        session.events.note(f"secrets are not copied: write them where {MASK} stands")
    remarks = "".join(f"# {note}\n" for note in loaded.notes)
    return f"{head}{remarks}\n{text}"
