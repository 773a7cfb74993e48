"""Writes dates, times and durations as ISO 8601 text, without losing a digit.

Dates are what `isoformat()` returns. Durations follow pydantic, except that days are never summed up to years.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

# Digits after the second, by NumPy's name of the unit.
SECOND_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_UNIT_SECONDS: Final = {"W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_CALENDAR: Final = {"Y": "Y", "M": "M"}
_MICROSECOND_DIGITS: Final = SECOND_DIGITS["us"]


def instant_text(count: int, unit: str) -> str:
    """Returns the date and time `count` units after 1970, for units from nanoseconds down.

    The fraction has as many groups of three digits as it needs, and at least two.
    """
    digits = SECOND_DIGITS[unit]
    microseconds, rest = divmod(count, 10 ** (digits - _MICROSECOND_DIGITS))
    instant = _EPOCH + timedelta(microseconds=microseconds)
    if not rest:
        return instant.isoformat()
    return instant.isoformat(timespec="microseconds") + _grouped(f"{rest:0{digits - _MICROSECOND_DIGITS}}")


def timedelta_text(duration: timedelta) -> str:
    """Returns a duration such as `P1DT2H`; subclasses may have more digits, which are not written."""
    seconds = duration.days * _UNIT_SECONDS["D"] + duration.seconds
    return duration_text(seconds * 10**_MICROSECOND_DIGITS + duration.microseconds, "us")


def duration_text(count: int, unit: str) -> str:
    """Returns `count` units of NumPy's as an ISO 8601 duration, exactly. Years and months stay what they are."""
    sign, count = ("-", -count) if count < 0 else ("", count)
    if unit in _CALENDAR:
        return f"{sign}P{count}{_CALENDAR[unit]}"
    digits = SECOND_DIGITS.get(unit, 0)
    seconds, fraction = divmod(count * _UNIT_SECONDS.get(unit, 1), 10**digits)
    days, seconds = divmod(seconds, _UNIT_SECONDS["D"])
    hours, seconds = divmod(seconds, _UNIT_SECONDS["h"])
    minutes, seconds = divmod(seconds, _UNIT_SECONDS["m"])
    point = f".{fraction:0{digits}}".rstrip("0") if fraction else ""
    date = f"{days}D" if days else ""
    time = "".join(f"{number}{letter}" for number, letter in ((hours, "H"), (minutes, "M")) if number)
    if seconds or point or not (date or time):
        time += f"{seconds}{point}S"
    return f"{sign}P{date}T{time}" if time else f"{sign}P{date}"


def _grouped(digits: str) -> str:
    while digits.endswith("000"):
        digits = digits[:-3]
    return digits
