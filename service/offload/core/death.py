"""What is known of the end of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ASKED_FOR: Final = frozenset({"SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """`signal` is a name ("SIGSEGV"), `exit_code` a number; both are None if neither is known.

    `note` adds what else is known, in words that may be shown to the caller. `is_planned`: the worker was replaced on
    purpose, which is not held against the jobs that it had not begun.
    """

    signal: str | None = None
    exit_code: int | None = None
    note: str = ""
    is_planned: bool = False

    @property
    def was_asked_for(self) -> bool:
        """Whether the worker was ended by a signal that people and supervisors send, but tasks do not."""
        return self.signal in _ASKED_FOR

    def facts(self) -> dict[str, object]:
        """Returns the fields of the problem document."""
        if self.signal is not None:
            return {"signal": self.signal}
        return {"exit_code": self.exit_code}

    def __str__(self) -> str:
        if self.signal is not None:
            what = f"was terminated by {self.signal}"
        elif self.exit_code is not None:
            what = f"exited with code {self.exit_code}"
        else:
            what = "ended for an unknown reason"
        return f"{what} ({self.note})" if self.note else what
