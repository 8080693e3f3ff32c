"""Limit: how many units in which time, and how they are counted."""

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypedDict, Unpack, get_args

Algorithm = Literal["log", "counter", "gcra"]
Counts = Literal["every", "failures", "reserved"]
OnError = Literal["open", "closed", "local"]

MAX_AMOUNT = 1_000_000
# A log stores each unit, and one run of the script may have to drop all of them.
MAX_LOG_AMOUNT = 10_000
MAX_WINDOW_SECONDS = 366 * 86_400

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_PERIODS = {seconds: unit for unit, seconds in _UNITS.items()}
_TEXT = re.compile(rf"(\d+)\s*(?:/|\bper\b)\s*(\d+)?\s*({'|'.join(_UNITS)})s?", re.IGNORECASE | re.ASCII)
# A name is part of a key, a metric's label, and a string in a header (RFC 9651, 3.3.3).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]*")


class CostTooHigh(ValueError):
    """A request costs more than its limit ever admits at once: no wait would help."""


class LimitOptions(TypedDict, total=False):
    """The fields of a Limit that a text such as "100/minute" does not state."""

    algorithm: Algorithm
    burst: int | None
    counts: Counts
    on_error: OnError
    shadow: bool
    sensitive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """`amount` units in `window_seconds` for each subject. Limits of the same name, algorithm and window share counts.

    algorithm   log: exact, no window of that length ever holds more than `amount`; 10 bytes a unit.
                counter: a fixed and the preceding window, weighted; under 200 bytes, at most 2 * amount in a window.
                gcra: units flow back evenly (ITU-T I.371); under 200 bytes, at most `burst` at once and
                burst + amount in a window.
    counts      every: each request. reserved: each, and a success gives its units back.
                failures: judged before, counted when it failed, so that requests at the same time may exceed it.
    on_error    where Redis cannot check it: open admits, closed refuses, local counts in this process alone.
    shadow      counts and reports, never refuses.
    sensitive   guards credentials: a definition that could admit more than the amount is a ValueError.
    """

    name: str
    amount: int
    window_seconds: int
    algorithm: Algorithm = "log"
    burst: int | None = None
    counts: Counts = "every"
    on_error: OnError = "open"
    shadow: bool = False
    sensitive: bool = False
    capacity: int = field(init=False)
    """The most units that are ever admitted at once."""

    def __post_init__(self) -> None:
        self._check_types()
        object.__setattr__(self, "capacity", self.burst or self.amount)
        most = MAX_LOG_AMOUNT if self.algorithm == "log" else MAX_AMOUNT
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a limit's name is made of letters, digits and _.:+-, not {self.name!r}")
        if not 1 <= self.amount <= most:
            raise ValueError(f"{self.name}: the amount of a {self.algorithm} is 1 to {most}, not {self.amount}")
        if not 1 <= self.window_seconds <= MAX_WINDOW_SECONDS:
            raise ValueError(f"{self.name}: a window has 1 to {MAX_WINDOW_SECONDS} seconds, not {self.window_seconds}")
        if self.burst is not None and (self.algorithm != "gcra" or not 1 <= self.burst <= self.amount):
            raise ValueError(f"{self.name}: burst is for gcra, and 1 to {self.amount}")
        if self.sensitive and self._is_weak:
            raise ValueError(
                f"{self.name}: a sensitive limit is an exact log, and never open, a shadow, or of failures"
            )

    def _check_types(self) -> None:
        """What no annotation stops: half a unit would never be counted, and a misspelt word would mean its default."""
        numbers = {"amount": self.amount, "window_seconds": self.window_seconds, "burst": self.burst}
        for name, number in numbers.items():
            if type(number) is not int and not (name == "burst" and number is None):
                raise TypeError(f"{self.name}: {name} is a whole number, not {number!r}")
        for name, value, words in (
            ("algorithm", self.algorithm, get_args(Algorithm)),
            ("counts", self.counts, get_args(Counts)),
            ("on_error", self.on_error, get_args(OnError)),
            ("shadow", self.shadow, (True, False)),
            ("sensitive", self.sensitive, (True, False)),
        ):
            if value not in words:
                raise ValueError(f"{self.name}: {name} is one of {words}, not {value!r}")

    @classmethod
    def parse(cls, text: str, *, name: str, **options: Unpack[LimitOptions]) -> "Limit":
        """A limit from "100/minute", "5 per 10 seconds" and the like. ValueError for any other text."""
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise ValueError(f'a limit reads like "100/minute" or "5 per 10 seconds", not {text!r}')
        amount, count, unit = found.groups()
        return cls(name=name, amount=int(amount), window_seconds=int(count or 1) * _UNITS[unit.lower()], **options)

    @property
    def _is_weak(self) -> bool:
        return self.on_error == "open" or self.algorithm != "log" or self.shadow or self.counts == "failures"

    @property
    def period(self) -> str:
        """The window as a word: minute, hour, 10s."""
        return _PERIODS.get(self.window_seconds, f"{self.window_seconds}s")


class Charge(NamedTuple):
    """One limit of a request. `subject` is any text that names who is counted; `cost` is in units."""

    limit: Limit
    subject: str
    cost: int = 1
