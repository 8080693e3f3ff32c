"""The interface by which the kit reports metrics."""

from typing import Protocol


class Telemetry(Protocol):
    """A collector of metrics. The names of distributions end in their unit; labels have few distinct values."""

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add `amount` to a counter."""

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Record one value of a distribution (seconds or bytes, as the name says)."""

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        """Set a current value."""


class NoTelemetry:
    """Collects nothing."""

    def count(self, name: str, amount: float = 1, /, **labels: str) -> None:
        return None

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        return None

    def gauge(self, name: str, value: float, /, **labels: str) -> None:
        return None
