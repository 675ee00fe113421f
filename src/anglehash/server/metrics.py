"""Counts and times of the service, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
"""The methods that have a label of their own: a client can make up any number of others."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of request times, in seconds."""


class Metrics:
    """What happened since the service was started."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "anglehash_requests", "Requests that were answered; status 0: the client went away.",
            ("route", "method", "status"), registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "anglehash_request_seconds", "From the headers of a request to the end of its answer.",
            ("route",), buckets=BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._gauges: dict[str, Gauge] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note a request that was answered.

        Args:
            route: the pattern of its path, never the path: that would be a new line for each item.
            method: of HTTP; those that are not in :data:`METHODS` count as ``other``.
            status: of the answer; 0 where the client went away.
            seconds: from its headers to the end of the answer.
        """
        self._requests.labels(route, method if method in METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, gauges: Mapping[str, float]) -> bytes:
        """All of it in Prometheus' text format, with gauges as they are now.

        >>> metrics = Metrics()
        >>> metrics.observe("/healthz", "GET", 200, 0.002)
        >>> lines = metrics.text({"anglehash_items": 3}).decode().splitlines()
        >>> [line for line in lines if "0.0025" in line or "items " in line][::3]
        ['anglehash_request_seconds_bucket{le="0.0025",route="/healthz"} 1.0', 'anglehash_items 3.0']
        """
        for name, value in gauges.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, name.replace("_", " "), registry=self._registry)
            self._gauges[name].set(value)
        return generate_latest(self._registry)
