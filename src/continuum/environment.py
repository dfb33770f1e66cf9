"""The environment of this process and of the programs that it starts; the standard library alone.

Shells, editors and other projects leave variables behind that change what Python, pip, git, Ansible,
kubectl, tar or Perl do. None of them is about Continuum, so none reaches a program of ours. What
says where this host gets things from stays: proxies, indexes, certificates.

The launcher (`cli/launch.sh`) takes away by itself what would keep a shell or Python from starting.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

LOCALE = "C.UTF-8"
"""Of programs whose words we read. It is part of the C library, so it is on every host."""

_STREAMS = ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY))

_DROPPED = frozenset(
    {
        *("BASH_ENV", "BASHOPTS", "CDPATH", "ENV", "GLOBIGNORE", "POSIXLY_CORRECT", "SHELLOPTS"),
        *("BZIP", "BZIP2", "GREP_OPTIONS", "GZIP", "TAR_OPTIONS", "XZ_DEFAULTS", "XZ_OPT"),
        *("PERL5LIB", "PERL5OPT", "PERLLIB", "PERL_UNICODE"),
        *("COMPILER_PATH", "CPATH", "C_INCLUDE_PATH", "GCC_EXEC_PREFIX", "LIBRARY_PATH"),
        *("GO111MODULE", "GOARCH", "GOBIN", "GOEXPERIMENT", "GOOS", "GOROOT", "GOWORK"),
        *("KUBECONFIG", "KUBERNETES_MASTER", "LIBVIRT_DEFAULT_URI", "XTABLES_LIBDIR"),
        *("MATPLOTLIBRC", "MPLBACKEND"),
    }
)
_DROPPED_PREFIXES = ("ANSIBLE_", "BASH_FUNC_", "GIT_", "LD_", "PIP_", "PYTHON")

_KEPT = frozenset(
    {
        # The launcher sets these itself, after it has dropped the caller's.
        *("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        *("GIT_ASKPASS", "GIT_TERMINAL_PROMPT"),
        *("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"),
        *("PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_KEYRING_PROVIDER"),
        *("PIP_PROXY", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_USE_FEATURE", "PIP_USE_DEPRECATED"),
        *("PIP_CACHE_DIR", "PIP_NO_CACHE_DIR", "PIP_TIMEOUT", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES"),
    }
)

_KEPT_PREFIXES = ("GIT_CONFIG_", "GIT_PROXY_", "GIT_SSH", "GIT_SSL_")

_FOLDERS = frozenset(
    {
        *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"),
        "XDG_STATE_HOME",
    }
)
"""A relative one counts for nothing, says the XDG base directory specification."""

_SET = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
"""Over what a `pip.conf` says: we name the place where packages go."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def clean(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that would change what a program does."""
    kept = {name: value for name, value in variables.items() if _stays(name, value)}
    return {**kept, **_SET}


def _stays(name: str, value: str) -> bool:
    if name in _FOLDERS:
        return Path(value).is_absolute()
    if name in _KEPT or name.startswith(_KEPT_PREFIXES):
        return True
    return not (name in _DROPPED or name.startswith(_DROPPED_PREFIXES))


def tidy() -> None:
    """Clean the environment of this process."""
    wanted = clean(os.environ)
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    os.environ.update(wanted)


def for_programs(
    more: Mapping[str, str], variables: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of a program whose output we read: this process's own, or that of `variables`,
    with some variables `more`.
    """
    kept = {
        name: value
        for name, value in clean(os.environ if variables is None else variables).items()
        if not name.startswith("LC_") and name != "LANGUAGE"
    }
    return {**kept, "LANG": LOCALE, "LC_ALL": LOCALE, **more}


def past_proxies(variables: Mapping[str, str], places: Iterable[str]) -> dict[str, str]:
    """The variables that keep proxies away from addresses and blocks; none where there is no proxy."""
    if not any(variables.get(name) for name in _PROXIES):
        return {}
    wanted = [*places, "localhost", "127.0.0.1"]
    there = [
        each.strip()
        for name in ("no_proxy", "NO_PROXY")
        for each in variables.get(name, "").split(",")
    ]
    told = ",".join(dict.fromkeys(each for each in (*there, *wanted) if each))
    return {"no_proxy": told, "NO_PROXY": told}


def open_streams() -> None:
    """Put /dev/null in the place of standard streams that are closed or cannot be used.

    The first file that is opened would take such a number, and get what is meant for the stream.
    """
    for number, wanted in _STREAMS:
        try:
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            mode = None
        if mode in {wanted, os.O_RDWR}:
            continue
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.set_inheritable(number, True)  # noqa: FBT003  the standard library's own signature
