"""Figures of a server for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.5, 1, 2, 5)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server process.

    Attributes:
        requests: Answered requests by method, path and status.
        seconds: Their duration.
        pass_sizes: Requests in one flow pass.
        transaction_sizes: Changes in one transaction.
        waiting: Requests that wait for a thread.
        learned: Examples learned.
        forgotten: Examples forgotten.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "bruno_requests",
            "Answered requests",
            ["method", "path", "status"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "bruno_request_seconds",
            "Duration of requests",
            ["method", "path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.pass_sizes = Histogram(
            "bruno_pass_requests",
            "Requests gathered into one flow pass",
            buckets=_SIZES,
            registry=self._registry,
        )
        self.transaction_sizes = Histogram(
            "bruno_transaction_changes",
            "Changes gathered into one transaction",
            buckets=_SIZES,
            registry=self._registry,
        )
        self.waiting = Gauge(
            "bruno_waiting_requests",
            "Requests that wait for a thread",
            ["thread"],
            registry=self._registry,
        )
        self.learned = Counter(
            "bruno_examples_learned", "Examples learned", registry=self._registry
        )
        self.forgotten = Counter(
            "bruno_examples_forgotten", "Examples forgotten", registry=self._registry
        )

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return generate_latest(self._registry)
