"""Lengths of time as they are declared: a number of seconds, checked where it is written down."""

import math

# A longer time is a mistake of units, or means "for ever", which nothing here promises.
LONGEST_SECONDS = 366 * 86_400


def check_seconds(name: str, value: object, *, least: float = 0.001, most: float = LONGEST_SECONDS) -> float:
    """The value, if it is a number of seconds from `least` to `most`. TypeError: no number, such as a timedelta.

    ValueError: NaN, infinite, or out of these bounds.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{name} is a number of seconds from {least:g} to {most:g}, not {value!r}")
    return value
