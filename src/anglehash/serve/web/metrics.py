"""Counts and times of the service, as Prometheus reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import accumulate

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of request times, in seconds."""


class Metrics:
    """What happened since the service was started. It belongs to the event loop: no locks."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note a request that was answered.

        Args:
            route: the pattern of its path, never the path: that would be a new line for each item.
            method: of HTTP.
            status: of the answer; 0 where the client went away.
            seconds: from its headers to the end of the answer.
        """
        self._requests[route, method, status] += 1
        self._buckets[route][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[route] += seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """All of it in Prometheus' text format, with gauges as they are now.

        >>> metrics = Metrics()
        >>> metrics.observe("/healthz", "GET", 200, 0.002)
        >>> lines = metrics.text({"anglehash_items": 3}).splitlines()
        >>> [line for line in lines if "0.0025" in line or "items " in line][::2]
        ['anglehash_request_seconds_bucket{route="/healthz",le="0.0025"} 1', 'anglehash_items 3']
        """
        lines = ["# TYPE anglehash_requests_total counter"]
        for (route, method, status), count in sorted(self._requests.items()):
            labels = f'route="{route}",method="{method}",status="{status}"'
            lines.append(f"anglehash_requests_total{{{labels}}} {count}")
        lines.append("# TYPE anglehash_request_seconds histogram")
        for route, counts in sorted(self._buckets.items()):
            bounds = [*map(str, BUCKETS), "+Inf"]
            for bound, count in zip(bounds, accumulate(counts), strict=True):
                lines.append(f'anglehash_request_seconds_bucket{{route="{route}",le="{bound}"}} {count}')
            lines.append(f'anglehash_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'anglehash_request_seconds_count{{route="{route}"}} {sum(counts)}')
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
