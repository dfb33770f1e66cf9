"""The text of a Continuum 1.x file as it may be kept: without the values of secret options."""

from __future__ import annotations

import re
from collections.abc import Callable

from continuum.experiment.document import KeyPath
from continuum.secret import MASK, is_secret_name

_OPTION = re.compile(
    r"(?P<head>[ \t]*(?:[#;][ \t#;]*)?(?P<name>[\w-]+)[ \t]*[=:][ \t]*)(?P<value>.*)"
)


def without_secrets(text: str, _: Callable[[KeyPath], bool]) -> str:
    """A text with `***` for the values of options that are secret by their names.

    A value may go on in further lines, which are indented more than its option.
    """
    lines = []
    inside: int | None = None
    for line in text.replace("\r\n", "\n").split("\n"):
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent > inside:
            lines.append(f"{line[:indent]}{MASK}")
            continue
        found = _OPTION.fullmatch(line)
        secret = found is not None and is_secret_name(found["name"])
        if line.strip():
            inside = indent if secret else None
        hidden = found is not None and secret and found["value"]
        lines.append(f"{found['head']}{MASK}" if found is not None and hidden else line)
    return "\n".join(lines)
