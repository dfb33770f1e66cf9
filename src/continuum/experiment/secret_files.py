"""Secrets that an experiment names instead of holding them: `password_file`, `environment_from`."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from continuum.errors import Problem
from continuum.experiment import fields
from continuum.experiment.document import Document, KeyPath, Source, dotted, shown
from continuum.secret import ENVIRONMENT, MASK, Secret, is_secret_path

SIZE_LIMIT = 1_000_000
"""Bytes of a file with secrets."""

ENVIRONMENT_FROM = "environment_from"
_GRAFANA: KeyPath = ("software", "grafana")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Refused(Exception):
    """Carries the problem with a file."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def is_secret(path: KeyPath) -> bool:
    """Tell whether a secret stands at that path: by its type, in a plug-in's table by its name."""
    spot = fields.spot(path)
    return is_secret_path(path) if spot is None else spot.kind is Secret


def texts(document: Document) -> Iterator[str]:
    """The secret texts of a document."""
    for path, value in _leaves(document.values):
        if isinstance(value, str) and is_secret(path):
            yield value
        elif isinstance(value, Secret):
            yield value.open()


def read_into(document: Document) -> list[Problem]:
    """Read the files that a document names, and put what they hold where it belongs.

    Returns:
        the problems, with file and line, and without what is secret.
    """
    problems = [
        document.source(path).problem(
            f'{dotted(path)}: "{MASK}" stands for a secret that was not written down',
            "write it, or name a file that holds it",
        )
        for path, value in _leaves(document.values)
        if value == MASK and is_secret(path)
    ]
    for read in (_read_password, _read_environment):
        try:
            read(document)
        except _Refused as error:
            problems.append(error.problem)
    return problems


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:  # noqa: ANN401
    """Every value of a document that is no table and no list."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in pairs:
            yield from _leaves(each, (*path, key))
    else:
        yield path, value


def _read_password(document: Document) -> None:
    table = document.get(_GRAFANA)
    path = (*_GRAFANA, "password_file")
    written = document.get(path)
    if not isinstance(table, dict) or not isinstance(written, str):
        return
    if "password" in table:
        raise _Refused(
            document.source(path).problem(
                f"{dotted(path)}: password stands here too", "leave one of them out"
            )
        )
    file = document.resolved(written, path)
    lines = _text(document, path, file).splitlines()
    if len(lines) != 1 or not lines[0]:
        found = "is empty" if not lines or not lines[0] else f"has {len(lines)} lines"
        raise _Refused(Problem(str(file), 0, f"{found}: a password file holds one line"))
    _put(document, path[:-1], "password", lines[0], Source(str(file), 1))
    table["password_file"] = str(file)


def _read_environment(document: Document) -> None:
    application = document.get(("benchmark", "application"))
    path: KeyPath = ("benchmark", str(application), ENVIRONMENT_FROM)
    written = document.get(path)
    if not isinstance(written, str):
        return
    file = document.resolved(written, path)
    table = document.get(path[:-1]).setdefault(ENVIRONMENT, {})
    for number, line in enumerate(_text(document, path, file).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, value = _variable(line, Source(str(file), number), document)
        # What stands in the experiment, or was given beside it, is nearer to the person.
        if isinstance(table, dict) and name not in table:
            _put(document, (*path[:-1], ENVIRONMENT), name, value, Source(str(file), number))


def _variable(line: str, source: Source, document: Document) -> tuple[str, str]:
    """Name and value of a line: `NAME=value`, or `NAME` alone for the caller's own."""
    name, equals, value = line.partition("=")
    name = name.strip()
    if _VARIABLE.fullmatch(name) is None:
        raise _Refused(source.problem("is neither NAME=value nor the NAME of a variable"))
    if equals:
        return name, value
    if name not in document.environment:
        raise _Refused(
            source.problem(
                f"there is no variable {shown(name)} in the environment", f"export {shown(name)}=…"
            )
        )
    document.variables.add(name)
    return name, document.environment[name]


def _put(document: Document, table: KeyPath, name: str, value: str, source: Source) -> None:
    document.get(table)[name] = Secret(value)
    document.sources[*table, name] = source
    document.in_secret_files.add((*table, name))


def _text(document: Document, path: KeyPath, file: Path) -> str:
    """The file's text, without a last line's end.

    Raises:
        _Refused: blamed on the line that names the file.
    """

    def refuse(why: str) -> _Refused:
        problem = f'{dotted(path)}: "{shown(file, 200)}" {why}'
        return _Refused(document.source(path).problem(problem))

    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise refuse("is no regular file")
        if status.st_size > SIZE_LIMIT:
            raise refuse(f"is larger than {SIZE_LIMIT // 10**6} MB")
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise refuse("is not there") from None
    except UnicodeDecodeError:
        raise refuse("is not text in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise refuse(f"cannot be read: {reason}") from error
    if status.st_mode & 0o077:
        document.notes.append(
            f"{dotted(path)}: others may read {shown(file, 200)}; chmod 600 keeps it yours"
        )
    return text.removesuffix("\n").removesuffix("\r")
