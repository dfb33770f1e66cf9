"""Queues whose arrivals and service times are known: when each request leaves, or begins.

One server: Lindley's recursion (1952, doi:10.1017/S0305004100027638). Several: that of Kiefer and
Wolfowitz (1955, doi:10.1090/S0002-9947-1955-0066587-3), in which a request takes the server that is
free first. Both serve in the order of arrival and lose nothing.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def departures(arrivals: Floats, service: Floats) -> Floats:
    """The departure times of requests from a single server: D(n) = max(A(n), D(n-1)) + S(n).

    With the sums of service C(n) this is D(n) = C(n) + max over i <= n of (A(i) - C(i-1)).

    Args:
        arrivals: times, (n,), in the order in which they are served.
        service: how long each takes, (n,), in the same unit.
    """
    served = np.cumsum(service)
    left: Floats = served + np.maximum.accumulate(arrivals - (served - service))
    return left


def starts(arrivals: Floats, service: Floats, servers: int) -> Floats:
    """The time at which each request is begun by one of `servers` equal servers.

    Args:
        arrivals: times, (n,), in the order in which they are served.
        service: how long each takes, (n,), in the same unit.
        servers: at least 1.
    """
    if servers == 1:
        return np.maximum(arrivals, departures(arrivals, service) - service)
    free = [-np.inf] * servers
    begun = np.empty(len(arrivals))
    for place, (arrival, takes) in enumerate(zip(arrivals.tolist(), service.tolist(), strict=True)):
        start = max(arrival, free[0])
        heapq.heapreplace(free, start + takes)
        begun[place] = start
    return begun
