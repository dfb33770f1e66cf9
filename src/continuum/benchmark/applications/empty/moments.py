"""Times as the cluster's programs write them."""

from __future__ import annotations

import datetime as dt
import re

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def nanoseconds(text: str) -> int:
    """Unix time in ns of a time as in RFC 3339, with all digits of its fraction.

    Raises:
        ValueError: it is none.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:40]}" is no time')
    whole, fraction, zone = found.groups()
    offset = "+00:00" if zone == "Z" else zone
    seconds = int(dt.datetime.fromisoformat(f"{whole}{offset}").timestamp())
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
