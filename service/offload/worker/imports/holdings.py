"""Decides what copies of a process may share of what the user's modules hold after their import.

A forked copy shares open file descriptions with its siblings (position, connection, lock), and has every random
generator in the same state. So a process that holds such things is not copied: each worker imports the modules itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

# A sentence names this number of things of one kind; the others are counted.
_MAX_NAMED: Final = 3

_CONSEQUENCE: Final = ". Until then each worker imports {} anew, and starts more slowly"

# Character devices that have no state.
_PLAIN_DEVICES: Final = frozenset({"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"})
_TERMINALS: Final = "/dev/pts/"
_DELETED: Final = " (deleted)"
_PROCESS_REFERENCE: Final = "anon_inode:[pidfd]"
_EVENTS: Final = "anon_inode:"


class HeldKind(Enum):
    """What is held: how a sentence says it, and what to do."""

    CONNECTION = ("opened a connection to {}", "open it in `@on_worker_start`")
    LISTENER = ("opened a listening socket on {}", "open it in `@on_worker_start`")
    SOCKET = ("opened a socket ({})", "open it in `@on_worker_start`")
    DATABASE = ("opened the database {}", "open it in `@on_worker_start`")
    FILE = ("opened {} for reading and writing", "open it in `@on_worker_start`")
    MOVED_FILE = ("opened {} for writing and moved in it", "open it in `@on_worker_start`")
    UNSHARED_FILE = ("opened {}", "open it in `@on_worker_start`")
    LOCK = ("locked {}", "lock it in the task: only one worker can lock it when it starts")
    PIPE = ("opened {}", "open it in `@on_worker_start`")
    EVENTS = ("opened an event loop, a selector or similar ({})", "open it in `@on_worker_start`")
    DEVICE = ("opened the device {}", "open it in `@on_worker_start`")
    MEMORY = ("made shared memory or a lock in shared memory ({})", "make it in `@on_worker_start`")
    THREAD = ("started {}", "start it in `@on_worker_start`")
    DIRECTORY = ("made the temporary directory {}", "make it in `@on_worker_start`")
    GENERATOR = ("made a random generator ({})", "make it in `@on_worker_start`")
    SEED = ("seeded the random numbers of {}", "do it in `@on_worker_start`")
    # Copies may share this one. Only where each worker imports the modules, each opens it anew.
    EMPTIED = ("opened {} for writing", "each worker empties it when it starts; open it with mode 'a'")

    @property
    def can_be_shared(self) -> bool:
        """Whether copies of a process may share it."""
        return self is HeldKind.EMPTIED

    @property
    def can_be_repeated(self) -> bool:
        """Whether nobody outside notices that each worker opens or makes it again."""
        return self not in (HeldKind.CONNECTION, HeldKind.LISTENER, HeldKind.LOCK, HeldKind.EMPTIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`target` opened or made `thing` at its import."""

    target: str
    kind: HeldKind
    thing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One open descriptor. `path` as in /proc/self/fd, `mode` of fstat(2), `flags` of F_GETFL.

    `kind` and `thing` are set for sockets. `is_at_end`: the position is the end of the file. `is_database`: it begins
    as an SQLite database. `can_be_reopened`: this process can open the same file again by the descriptor.
    """

    number: int
    path: str
    mode: int
    flags: int
    is_locked: bool = False
    is_at_end: bool = True
    is_database: bool = False
    can_be_reopened: bool = True
    kind: HeldKind | None = None
    thing: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file or a directory."""
        return stat.S_ISREG(self.mode) or stat.S_ISDIR(self.mode)

    @property
    def access(self) -> int:
        """O_RDONLY, O_WRONLY or O_RDWR."""
        return self.flags & os.O_ACCMODE

    @property
    def is_reopened(self) -> bool:
        """Whether each copy opens it again, for a position and for locks of its own.

        In a file that is only written all copies write at the end.
        """
        return self.is_file and self.access != os.O_RDWR and self.can_be_reopened


def conflict_of(descriptor: Descriptor) -> tuple[HeldKind, str] | None:
    """Returns what copies of the process cannot share, and its name; None if they can share the descriptor."""
    if descriptor.is_locked:
        return HeldKind.LOCK, descriptor.path
    if descriptor.kind is not None:
        return descriptor.kind, descriptor.thing
    if descriptor.is_file:
        return _judge_file(descriptor)
    if stat.S_ISFIFO(descriptor.mode):
        return HeldKind.PIPE, f"the pipe {descriptor.path}" if descriptor.path.startswith("/") else "a pipe"
    if stat.S_ISCHR(descriptor.mode):
        is_plain = descriptor.path in _PLAIN_DEVICES or descriptor.path.startswith(_TERMINALS)
        return None if is_plain else (HeldKind.DEVICE, descriptor.path)
    if descriptor.path.startswith(_EVENTS) and descriptor.path != _PROCESS_REFERENCE:
        return HeldKind.EVENTS, descriptor.path.removeprefix(_EVENTS).strip("[]")
    return None if descriptor.path == _PROCESS_REFERENCE else (HeldKind.UNSHARED_FILE, descriptor.path)


def _judge_file(descriptor: Descriptor) -> tuple[HeldKind, str] | None:
    if descriptor.is_database:
        return HeldKind.DATABASE, descriptor.path
    if descriptor.access == os.O_RDWR:
        is_temporary = descriptor.path.endswith(_DELETED)
        return HeldKind.FILE, "a temporary file" if is_temporary else descriptor.path
    if descriptor.access == os.O_WRONLY:
        if descriptor.flags & os.O_APPEND:
            return None
        return HeldKind.EMPTIED if descriptor.is_at_end else HeldKind.MOVED_FILE, descriptor.path
    return None if descriptor.can_be_reopened else (HeldKind.UNSHARED_FILE, descriptor.path)


def can_be_copied(findings: Iterable[Finding]) -> bool:
    """Whether workers may be copies of a process that holds these."""
    return all(finding.kind.can_be_shared for finding in findings)


def report(findings: Sequence[Finding], *, start_method: str) -> list[str]:
    """Returns one sentence for each target and kind that the user should know of."""
    if start_method == "spawn":
        return sentences(finding for finding in findings if not finding.kind.can_be_repeated)
    return [] if can_be_copied(findings) else sentences(findings, consequence=_CONSEQUENCE)


def sentences(findings: Iterable[Finding], *, consequence: str = "") -> list[str]:
    """Returns one sentence for each target and kind. `consequence` follows where copies cannot share it."""
    things: dict[tuple[str, HeldKind], list[str]] = {}
    for finding in findings:
        named = things.setdefault((finding.target, finding.kind), [])
        if finding.thing not in named:
            named.append(finding.thing)
    return [
        f"{target} {kind.value[0].format(_listed(named))} at import; {kind.value[1]}"
        + ("" if kind.can_be_shared else consequence.format(target))
        for (target, kind), named in things.items()
    ]


def _listed(names: list[str]) -> str:
    rest = len(names) - _MAX_NAMED
    if rest > 0:
        return f"{', '.join(names[:_MAX_NAMED])} and {rest} more"
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
