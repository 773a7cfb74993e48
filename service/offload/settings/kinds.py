"""The kinds of settings: counts, durations, sizes, choices, switches and texts.

Each kind has a default and its range in words. It reads a value (a text, or one from TOML or from Python) and shows it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
_DECIMAL_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY_UNITS: Final = {"KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": 1024 * GIB}
_UNITS: Final = _DECIMAL_UNITS | _BINARY_UNITS
_SIZE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?((?:[KMGT]I?)?B)?", re.IGNORECASE)
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_TRUE_WORDS: Final = frozenset({"true", "yes", "on", "1"})
_FALSE_WORDS: Final = frozenset({"false", "no", "off", "0"})

_MAX_SECONDS: Final = 30 * 24 * 3600.0
_SHOWN_CHARACTERS: Final = 60


def parse_size(text: str) -> int:
    """Returns the number of bytes of "64 KiB", "32MB" (10^6), "1.5GiB" or "4096". Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {shown(text)}")
    return int(float(match[1]) * _UNITS[(match[2] or "").upper()])


def shown(value: object) -> str:
    """Returns a value for a message: quoted, with control characters escaped, and cut if long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
S = TypeVar("S", str, str | None)


class Kind(Protocol[T]):
    """The values that a setting may have, and its default."""

    @property
    def default(self) -> T: ...

    @property
    def placeholder(self) -> str:
        """Stands for the value in `--help`; empty for a switch, which takes no value."""

    @property
    def range(self) -> str:
        """The accepted values, in words."""

    def read(self, value: object) -> T:
        """Returns the value as the service uses it, from a text or another type. Raises ValueError."""

    def show(self, value: T) -> str:
        """Returns the value as text for people."""


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number. `zero` says what 0 means if it has a meaning of its own."""

    default: int
    minimum: int
    maximum: int
    zero: str = ""
    placeholder: str = "N"

    @property
    def range(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}" + (f" (0 = {self.zero})" if self.zero else "")

    def read(self, value: object) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise ValueError
        return value

    def show(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Seconds:
    default: float
    minimum: float
    maximum: float = _MAX_SECONDS
    placeholder: str = "SECONDS"

    @property
    def range(self) -> str:
        return f"a number of seconds from {self.minimum:g} to {self.maximum:.0f}"

    def read(self, value: object) -> float:
        number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
        if number is None or not self.minimum <= number <= self.maximum:  # NaN compares as false, so it is rejected
            raise ValueError
        return number

    def show(self, value: float) -> str:
        return f"{value:g} s"


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes. `zero` says what 0 means; without it, 0 is out of range."""

    default: int
    minimum: int
    maximum: int
    zero: str = ""
    placeholder: str = "SIZE"

    @property
    def range(self) -> str:
        text = f'a size from {self.show(self.minimum)} to {self.show(self.maximum)}, such as 4096, "32MB" or "1GiB"'
        return f"{text} (0 = {self.zero})" if self.zero else text

    def read(self, value: object) -> int:
        size = parse_size(value) if isinstance(value, str) else value
        if isinstance(size, bool) or not isinstance(size, int):
            raise ValueError
        if not (self.minimum <= size <= self.maximum or (self.zero and size == 0)):
            raise ValueError
        return size

    def show(self, value: int) -> str:
        for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if value and value % unit == 0:
                return f"{value // unit} {name}"
        return str(value)


@dataclass(frozen=True, slots=True)
class Choice(Generic[E]):
    """A member of the default's enum."""

    default: E

    @property
    def placeholder(self) -> str:
        return "{" + ",".join(type(self.default)) + "}"

    @property
    def range(self) -> str:
        return "one of " + ", ".join(type(self.default))

    def read(self, value: object) -> E:
        if not isinstance(value, str):
            raise ValueError
        return type(self.default)(value.lower())

    def show(self, value: E) -> str:
        return value.value


@dataclass(frozen=True, slots=True)
class Switch:
    default: bool
    placeholder: str = ""

    @property
    def range(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if isinstance(value, str) and value.lower() in _TRUE_WORDS | _FALSE_WORDS:
            return value.lower() in _TRUE_WORDS
        if not isinstance(value, bool):
            raise ValueError
        return value

    def show(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Generic[S]):
    """A text that matches the whole `pattern`; `range` describes it. None is accepted if it is the default.

    `nothing` is shown for None and for an empty text.
    """

    default: S = field(kw_only=False)
    placeholder: str
    range: str
    pattern: str
    max_bytes: int = 1024
    nothing: str = "empty"

    def read(self, value: object) -> S:
        if value is None and self.default is None:
            return self.default
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError
        if len(os.fsencode(value)) > self.max_bytes:
            raise ValueError
        return value

    def show(self, value: S) -> str:
        return value or self.nothing
