"""The command line: finds the verb, runs it, and turns every ending into text and an exit code."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from continuum import environment, interruption
from continuum.cli import failure, handover, output
from continuum.cli.session import Session, common
from continuum.errors import ContinuumError, Interrupted, UsageError
from continuum.secret import masked

PROGRAM = "continuum"
COMPLETION = "_CONTINUUM_COMPLETE"
INTERRUPTED = 130
USAGE = 2
_OBJECTS_PER_COLLECTION = 50_000

OVERVIEW = """Emulated cloud, edge and endpoint machines, the network between them, and a
benchmark on top: from one file.

\b
  continuum init my.toml       write an experiment to start from
  continuum run my.toml        machines up, links checked, benchmark, report
  continuum down NAME          remove it all again
"""

VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Experiments": {
        "init": ("init", "Write an experiment to start from, or convert a .cfg file."),
        "validate": ("validate", "Check experiment files; tell all problems at once."),
        "plan": ("plan", "Show what `up` and `run` would do; touch nothing."),
        "doctor": ("doctor", "Try what this host must have, and say how to mend it."),
        "artifacts": ("artifacts", "Show, fetch, export or import programs from outside."),
    },
    "Machines": {
        "up": ("up", "Bring machines, software and network up."),
        "run": ("run", "Bring up, check the links, run the benchmark, write the report."),
        "down": ("down", "Remove deployments with all that belongs to them."),
    },
    "What is up": {
        "status": ("status", "Show deployments, their machines and links."),
        "watch": ("watch", "Watch a run while it lasts, here or in a browser."),
        "ssh": ("ssh", "Log in to a machine."),
        "ssh-config": ("ssh_config", "Write the configuration for `ssh -F`."),
        "kubectl": ("kubectl", "Run kubectl on a deployment's cluster."),
        "open": ("open", "Open Grafana, Prometheus or the functions' gateway."),
        "exec": ("exec", "Run a command on one or several machines."),
        "logs": ("logs", "Show the log of a machine, a unit, a pod or a function."),
    },
    "Results": {
        "report": ("report", "Make the report of a results folder again."),
    },
}
"""Module and one line of help by verb, in the groups of the overview."""

EXIT_CODES = (
    ("0", "done"),
    ("1", "a step, a link check or the benchmark failed, or the run is degraded"),
    ("2", "usage, or an invalid experiment"),
    ("3", "valid, but not on this host"),
    ("4", "a machine cannot be reached"),
    ("5", "no such deployment, or nothing selected"),
    ("6", "changes are pending (plan --detailed-exitcode)"),
    ("70", "a defect of Continuum; the full log's path is printed"),
    ("130", "interrupted; what was created is named"),
)


class Verbs(click.Group):
    """The verbs; a module is imported when its verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the overview."""
        del ctx
        return [verb for group in VERBS.values() for verb in group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its command."""
        del ctx
        for group in VERBS.values():
            if cmd_name in group:
                module = import_module(f"continuum.cli.commands.{group[cmd_name][0]}")
                command: click.Command = module.command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a wrong one is answered with the nearest right one."""
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            advice = f"did you mean `{near[0]}`?" if near else "see `continuum --help`"
            raise click.UsageError(f"no such command: {args[0][:40]}; {advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The overview in groups, without importing any verb."""
        del ctx
        for title, group in VERBS.items():
            with formatter.section(title):
                formatter.write_dl([(verb, text) for verb, (_, text) in group.items()])
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)
        with formatter.section("Completion"):
            formatter.write_text('bash: eval "$(_CONTINUUM_COMPLETE=bash_source continuum)"')
            formatter.write_text('zsh:  eval "$(_CONTINUUM_COMPLETE=zsh_source continuum)"')


def _show_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from continuum.version import version  # noqa: PLC0415

        output.write(f"continuum {version()}")
        context.exit()


@click.command(
    cls=Verbs,
    help=OVERVIEW,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@common
@click.pass_context
def continuum(context: click.Context) -> None:
    """Without a verb, show the overview."""
    if context.invoked_subcommand is None:
        output.write(context.get_help())


def main() -> NoReturn:
    """Run the command line of this process."""
    # A command imports much, which stays, and is short: collections took a tenth of its start.
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    _open_streams()
    environment.tidy()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the encoding of this terminal or file lacks is spelt out, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    os.environ["PATH"] = _with_system_programs(os.environ.get("PATH", os.defpath))
    if COMPLETION in os.environ:
        continuum.main(prog_name=PROGRAM, complete_var=COMPLETION)
    sys.exit(run(handover.arguments()))


def _open_streams() -> None:
    """Have all three standard streams, as everything here takes for granted."""
    environment.open_streams()
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115  as long as the process
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", errors="backslashreplace")  # noqa: SIM115


def _refuse_folder_that_is_gone() -> None:
    """Raise when the current folder was removed: nothing could lie there, nor be found from it.

    Raises:
        UsageError: it was.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError(
            "the folder where you stand is gone",
            hint="`cd` to one that is there: results come to lie where you stand, or in "
            "--results DIR",
        ) from None


def _with_system_programs(path: str) -> str:
    """A search path that finds what only root's has on Debian: iptables, sysctl, tc."""
    folders = path.split(os.pathsep)
    more = (each for each in ("/usr/local/sbin", "/usr/sbin", "/sbin") if each not in folders)
    return os.pathsep.join([*folders, *more])


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Never raises, never shows a traceback."""
    session = Session(list(arguments))
    masked.forget()
    with interruption.handled():
        try:
            return _run(session)
        except KeyboardInterrupt:
            # A second signal while the first one was answered.
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001  a defect in how another ending is told
            return INTERRUPTED if interruption.insisted() else _unexpected(session, error)
        finally:
            session.close()


def _run(session: Session) -> int:
    try:
        _refuse_folder_that_is_gone()
        with continuum.make_context(PROGRAM, list(session.arguments), obj=session) as context:
            code = continuum.invoke(context)
        sys.stdout.flush()
        interruption.check()
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except BrokenPipeError:
        # Who reads our output has enough; Python must not complain about it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort, Interrupted) as error:
        session.close()
        return _interrupted(session, error)
    except (ContinuumError, click.ClickException) as error:
        session.close()
        code = _expected(error)
        # What fails after a signal fails for it.
        return _interrupted(session, KeyboardInterrupt()) if interruption.came() else code
    except Exception as error:  # noqa: BLE001  whatever else it is, it is a defect, and told as one
        session.close()
        return INTERRUPTED if interruption.insisted() else _unexpected(session, error)
    return code if isinstance(code, int) else 0


def _expected(error: ContinuumError | click.ClickException) -> int:
    if isinstance(error, ContinuumError):
        failure.show(error)
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    output.say(f"{output.styled('error:', 'bad')} {output.clean(error.format_message())}")
    output.say(f"  what to do: {context.command_path if context else 'continuum'} --help")
    return USAGE


def _unexpected(session: Session, error: Exception) -> int:
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        error = OSError(errno.EAGAIN, "no more threads can be started")
    if isinstance(error, OSError):
        from continuum import state_file  # noqa: PLC0415  slow to import, and seldom needed

        damage = state_file.failure(error)
        if damage is not None:
            failure.show(damage)
            return damage.exit_code
    if isinstance(error, OSError) and error.errno in _OF_THE_HOST:
        failure.show(_host_error(error))
        return ContinuumError.exit_code
    from continuum import folders  # noqa: PLC0415  slow to import, and seldom needed

    failure.show_defect(error, session.arguments, folders.state_folder().parent / "logs")
    return failure.DEFECT


_MAKE_ROOM = (
    "remove what is not needed; Continuum's cache folder may be removed when no machines are up: "
    "these stand on its images"
)
_OF_THE_HOST = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EROFS: "set XDG_STATE_HOME and XDG_CACHE_HOME to folders that can be written",
    errno.ENOTDIR: "set XDG_STATE_HOME and XDG_CACHE_HOME to folders that can be written",
    errno.EACCES: "give yourself the right to it, or choose another folder",
    errno.EPERM: "give yourself the right to it, or choose another folder",
    errno.EFBIG: "ulimit -f unlimited",
    errno.EAGAIN: "ulimit -u shows how many processes you may have: end some, or raise it",
    errno.ENOMEM: "end what needs memory on this host, or raise `ulimit -v`",
    errno.EIO: "look at the disk: dmesg",
    errno.ESTALE: "mount that folder again",
    errno.EMFILE: "ulimit -n 65536",
    errno.ENFILE: "sysctl fs.file-max",
}
"""What to do about errors that the host's state causes, not our code."""


def _host_error(error: OSError) -> ContinuumError:
    from continuum import room  # noqa: PLC0415  slow to import, and seldom needed

    if error.errno in room.ERRORS and error.filename:
        return room.full(error)
    return ContinuumError(
        error.strerror or str(error),
        where=str(error.filename or ""),
        hint=_OF_THE_HOST[error.errno or 0],
    )


def _interrupted(session: Session, error: BaseException) -> int:
    if isinstance(error, Interrupted):
        failure.show(error)
    if session.deployment:
        from continuum.cli.created import name_what_was_created  # noqa: PLC0415

        name_what_was_created(session.deployment, session.results)
    else:
        output.say("interrupted; nothing was changed")
    return INTERRUPTED
