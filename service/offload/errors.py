"""The errors of this package, as a tree.

The class says what went wrong, the fields hold the facts, and `__str__` makes the text: what happened, the limit, what
to do. HTTP status codes are in `web.answers.problems`.

    OffloadError
    ├── UserError                  a mistake of the user; reported in a sentence, without a traceback
    │   ├── SettingsError          settings that cannot be used, with every fault
    │   ├── TargetError            a task file or module that cannot be served
    │   ├── TaskDefinitionError    a function that cannot be a task
    │   ├── BindError              an address that cannot be listened on
    │   └── SurroundingsError      the system refuses something that the service needs to start
    ├── IllegalStep                a bug: an event that cannot happen in this state
    ├── FrameError                 malformed bytes on a worker's channel
    └── EngineError                the engine cannot do its work
        └── StartError             a worker could not be started
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class OffloadError(Exception):
    """The base of all errors of this package."""


class UserError(OffloadError):
    """A mistake that the user can correct."""


class SettingsError(UserError):
    """Settings that cannot be used; `faults` has a sentence for each, with its name, range and value."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class TargetError(UserError):
    """A task file or module that cannot be served; `target` is the user's name for it, `problem` a sentence.

    `stack` is the traceback of the exception that ended the import, for the log, or "".
    """

    def __init__(self, target: str, problem: str, stack: str = "") -> None:
        super().__init__(target, problem, stack)
        self.target = target
        self.problem = problem
        self.stack = stack

    def __str__(self) -> str:
        return f"{self.target}: {self.problem}" if self.target else self.problem


class TaskDefinitionError(UserError):
    """A function that cannot be a task; `task` is its name, `problem` says why and what to do.

    `place` is where it is defined, such as "tasks.py:12", or "" if unknown.
    """

    def __init__(self, task: str, problem: str) -> None:
        super().__init__(task, problem)
        self.task = task
        self.problem = problem
        self.place = ""

    def at(self, place: str) -> Self:
        """Set the place unless it is known already. Returns the error."""
        self.place = self.place or place
        return self

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        return f"task {self.task!r}{place}: {self.problem}"


class BindError(UserError):
    """An address that cannot be listened on; `problem` says why."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address = address
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.problem}"


class SurroundingsError(UserError):
    """The system refuses something that the service needs to start.

    `doing` is an infinitive ("load the tasks"); `problem` says why it failed and what to do.
    """

    def __init__(self, doing: str, problem: str) -> None:
        super().__init__(doing, problem)
        self.doing = doing
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot {self.doing}: {self.problem}"


class IllegalStep(OffloadError):
    """An event that cannot happen in this state. Nothing was changed."""

    def __init__(self, *, thing: str, state: str, event: str) -> None:
        super().__init__(thing, state, event)
        self.thing = thing
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{self.thing} is {self.state}: {self.event} is not possible"


class FrameError(OffloadError):
    """Malformed bytes on a worker's channel, which cannot be read any further."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"malformed frame on a worker's channel: {self.problem}"


class EngineError(OffloadError):
    """The engine cannot do its work."""


class StartError(EngineError):
    """A worker could not be started; `problem` says what happened."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot start a worker: {self.problem}"
