"""The error tree.

Every error of ours derives from `OffloadError`.  The class says what went wrong, the fields hold the facts, and the
text is made in `__str__`: what happened, the limit, what to do.  HTTP status codes do not live here.

    OffloadError
    ├── UserError              something that the user can mend; told in a sentence, without a traceback
    │   ├── SettingsError      settings that cannot be used, all of them at once
    │   ├── TargetError        a task file or module that cannot be served
    │   ├── TaskDefinitionError  a function that cannot be a task
    │   └── BindError          the address to listen on cannot be had
    ├── IllegalStep            a bug of ours: an event that cannot happen in this state
    ├── FrameError             bytes on a worker's channel that are no frame of ours
    └── EngineError            the engine cannot do its work
        └── StartError         a worker could not be started
"""

from __future__ import annotations

from collections.abc import Sequence


class OffloadError(Exception):
    """Base of all errors of this package."""


class UserError(OffloadError):
    """Something that the user can mend."""


class SettingsError(UserError):
    """Settings that cannot be used; `faults` has a sentence for each, with the name, the value and the range."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults)
        self.faults = tuple(faults)

    def __str__(self) -> str:
        return "\n".join(self.faults)


class TargetError(UserError):
    """A task file or module that cannot be served; `target` as the user named it, `problem` in a sentence."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(target, problem)
        self.target = target
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.target}: {self.problem}" if self.target else self.problem


class TaskDefinitionError(UserError):
    """A function that cannot be a task; `task` is its name, `problem` says why and what to do."""

    def __init__(self, task: str, problem: str) -> None:
        super().__init__(task, problem)
        self.task = task
        self.problem = problem

    def __str__(self) -> str:
        return f"task {self.task!r}: {self.problem}"


class BindError(UserError):
    """The address to listen on cannot be had."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(address, problem)
        self.address = address
        self.problem = problem

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {self.problem}"


class IllegalStep(OffloadError):
    """An event that cannot happen in this state; nothing was changed."""

    def __init__(self, *, thing: str, state: str, event: str) -> None:
        super().__init__(thing, state, event)
        self.thing = thing
        self.state = state
        self.event = event

    def __str__(self) -> str:
        return f"{self.thing} is {self.state}: {self.event} is not possible"


class FrameError(OffloadError):
    """Bytes on a worker's channel that are no frame of ours; the channel can be read no further."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"garbage on the worker's channel: {self.problem}"


class EngineError(OffloadError):
    """The engine cannot do its work."""


class StartError(EngineError):
    """A worker could not be started; `problem` says what happened."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"a worker could not be started: {self.problem}"
