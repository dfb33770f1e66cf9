"""Text as a terminal may show it; nothing but Python's own library, for what runs before all else."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\n\t")


def clean(text: str) -> str:
    """`text` without what a terminal obeys, and without what UTF-8 cannot say.

    Control characters (also those above 0x7F), marks that turn the direction of writing, and half
    surrogate pairs are spelt out. For words that came from a file, a machine, or the command line.
    """
    if text.isprintable():
        return text
    return "".join(each if _is_plain(each) else ascii(each)[1:-1] for each in text)


def clean_json(text: str) -> str:
    """The same for a JSON document, in JSON's own spelling: it means what it meant."""
    if text.isprintable():
        return text
    return "".join(each if _is_plain(each) else _spelt(each) for each in text)


def _is_plain(character: str) -> bool:
    return character.isprintable() or character in _KEPT or unicodedata.category(character) == "Zs"


def _spelt(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
