"""A plugin of pytest for kernels whose system calls are slow: links are checked by fewer packets.

The defaults are as many as this program's own share of a real kernel allows; here they would
measure the sender.
"""

from __future__ import annotations

from continuum.infrastructure.links import check

check.STREAM_RATE = 100.0
check.LOSS_RATE = 500.0
