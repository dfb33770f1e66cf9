"""INI as Python's `configparser` reads it by default, but with lines, and to the end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from continuum.experiment.document import shown
from continuum.secret import is_secret_name


@dataclass(frozen=True)
class Entry:
    """One option as written; the name in lower case."""

    section: str
    name: str
    value: str
    line: int


@dataclass
class Ini:
    """The sections of a file with their lines, and the options in order."""

    sections: dict[str, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


_SECTION = re.compile(r"\[(.+)\]")
_OPTION = re.compile(r"(.*?)\s*[=:]\s*(.*)$")


def scan(text: str) -> Ini:
    """Sections and options of a text, with their lines.

    Comments are whole lines; a value goes on in lines that are indented more than its option.
    """
    scanner = _Scanner()
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        scanner.line(number, line)
    scanner.finish_option()
    return scanner.ini


class _Scanner:
    def __init__(self) -> None:
        self.ini = Ini()
        self._section = ""
        self._option: tuple[str, int, list[str]] | None = None
        self._indent = 0

    def finish_option(self) -> None:
        if self._option is not None:
            name, line, parts = self._option
            self.ini.entries.append(Entry(self._section, name, "\n".join(parts).rstrip(), line))
            self._option = None

    def line(self, number: int, line: str) -> None:
        content = line.strip()
        if not content or content[0] in "#;":
            if self._option is not None and not content:
                self._option[2].append("")
            return
        indent = len(line) - len(line.lstrip())
        if self._option is not None and indent > self._indent:
            self._option[2].append(content)
            return
        self._indent = indent
        header = _SECTION.match(content)
        if header:
            self._start_section(number, header[1])
        elif not self.ini.sections:
            self._problem(number, "stands before the first section, as [infrastructure]")
        else:
            self._start_option(number, content)

    def _start_section(self, number: int, name: str) -> None:
        self.finish_option()
        self._section = name
        first = self.ini.sections.setdefault(name, number)
        if first != number:
            self._problem(number, f"section [{shown(name)}] stands here again, after line {first}")

    def _start_option(self, number: int, content: str) -> None:
        found = _OPTION.match(content)
        if found and found[1]:
            self.finish_option()
            self._option = (found[1].rstrip().lower(), number, [found[2].strip()])
        else:
            first = content.split(maxsplit=1)[0]
            content = first if is_secret_name(first) else content
            self._problem(number, f'"{shown(content)}" is neither a section nor OPTION = VALUE')

    def _problem(self, number: int, message: str) -> None:
        self.ini.problems.append((number, message))
