"""Verbs that touch machines: they run again through sudo, and install what the host lacks."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from continuum.cli import bootstrap, handover
from continuum.errors import NotPossibleHere

if TYPE_CHECKING:
    from continuum.cli.session import Session
    from continuum.infrastructure.providers.contract import Provider, PythonModule

T = TypeVar("T")

_HANDED_ON = (
    *("HOME", "PATH", "PYTHONPATH", "PYTHONSAFEPATH", "SSH_AUTH_SOCK"),
    *("TERM", "COLORTERM", "NO_COLOR", "LANG", "TZ"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOFLAGS", "GOTOOLCHAIN"),
    *("GOPATH", "GOMODCACHE", "GOCACHE"),
)
_HANDED_ON_PREFIXES = ("XDG_", "CONTINUUM_", "PIP_", "LC_")


def handed_on(environment: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """The variables that the same command needs behind sudo, which drops them all.

    The caller's folders stay the caller's; byte code of our sources is not written as root. `more`
    are names of variables that the experiment asks for.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _HANDED_ON or name in more or name.startswith(_HANDED_ON_PREFIXES)
    }
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def ensure_root(session: Session, provider: type[Provider]) -> None:
    """Go on as root when the provider needs it: does not return when sudo takes over.

    Raises:
        NotPossibleHere: not root, and no way to become it.
    """
    if provider.capabilities.needs_root:
        other = "; --provider fake needs none, and makes no machines"
        become_root(session, f'provider "{provider.name}" needs root', other)


def become_root(session: Session, reason: str, other_way: str = "") -> None:
    """Go on as root: does not return when sudo takes over.

    Raises:
        NotPossibleHere: not root, and no way to become it.
    """
    if os.geteuid() == 0:
        return
    sudo = bootstrap.find_program("sudo")
    if sudo is None:
        raise NotPossibleHere(
            f"{reason}, and there is no sudo on this host",
            hint=f"run the same command as root{other_way}",
        )
    if not sys.stdin.isatty():
        # Without a terminal sudo cannot ask for a password: find out before it fails.
        asks = subprocess.run(
            [sudo, "-n", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=False,
        )
        if asks.returncode != 0:
            raise NotPossibleHere(
                f"{reason}; sudo refuses without a terminal",
                output=asks.stderr.decode("utf-8", "replace"),
                hint="run the same command on a terminal, or as root",
            )
    session.close()
    sys.stdout.flush()
    variables = handed_on(os.environ, session.variables)
    handover.through_sudo(sudo, session.arguments, variables)


def ensure_programs(session: Session, programs: Mapping[str, str]) -> None:
    """Install the Debian packages of those programs that this host lacks.

    Raises:
        NotPossibleHere: they cannot be installed, or the person said no.
    """
    missing = bootstrap.missing_packages(dict(programs))
    if not missing:
        return
    try:
        bootstrap.install_packages(missing, yes=session.yes)
    except bootstrap.CannotPrepare as error:
        raise NotPossibleHere(error.message, output=error.output, hint=error.hint) from error


def with_programs(session: Session, action: Callable[[], T]) -> T:
    """What the action returns; once more, when it ended for want of programs that can be installed.

    Raises:
        NotPossibleHere: the action's own, when they cannot be.
    """
    from continuum.artifacts.attempt import NotToBeHad  # noqa: PLC0415  slow to import

    try:
        return action()
    except NotToBeHad as error:
        if not error.programs or not bootstrap.missing_packages(dict(error.programs)):
            raise
        try:
            ensure_programs(session, error.programs)
        except NotPossibleHere as problem:
            session.events.note(problem.message, "warning")
            raise error from problem
    return action()


def ensure_modules(session: Session, modules: Mapping[str, PythonModule]) -> None:
    """Install the Python packages that bring those modules, and what it takes to build them.

    Raises:
        NotPossibleHere: they cannot be installed, or the person said no.
    """
    missing = [each for name, each in modules.items() if importlib.util.find_spec(name) is None]
    if not missing:
        return
    for module in missing:
        ensure_programs(session, module.programs)
    libraries = {name: package for each in missing for name, package in each.libraries.items()}
    try:
        bootstrap.install_python_packages(
            [module.requirement for module in missing], libraries, yes=session.yes
        )
    except bootstrap.CannotPrepare as error:
        raise NotPossibleHere(error.message, output=error.output, hint=error.hint) from error
    importlib.invalidate_caches()


def prepare_host(session: Session, provider: type[Provider]) -> None:
    """What every verb that touches machines does first."""
    ensure_root(session, provider)
    ensure_programs(session, provider.programs)
    ensure_modules(session, provider.modules)
