"""Starts `continuum_runtime.function` in a container.

The first process of a container is not ended by a signal that it does not handle, and what the
function needs takes a while to be imported: who is told to end meanwhile ends at once.
"""

from __future__ import annotations

import os
import signal


def _end(*_: object) -> None:
    os._exit(0)


def main() -> None:
    """Handle SIGTERM, then serve."""
    signal.signal(signal.SIGTERM, _end)
    from continuum_runtime import function  # noqa: PLC0415  slow to import, see above

    function.main()


if __name__ == "__main__":
    main()
