"""Reads the facts by which `holdings` judges an open descriptor, and opens files again for a copy of the process."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from typing import Final

from offload.worker.descriptors import is_locked
from offload.worker.imports.holdings import Descriptor, HeldKind

_DATABASE_HEAD: Final = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html
_OPENING_FLAGS: Final = os.O_CREAT | os.O_EXCL | os.O_TRUNC


@dataclass(frozen=True, slots=True, kw_only=True)
class ReopenedFile:
    """A file that each copy of this process opens again at `position`, under the same number."""

    number: int
    flags: int
    position: int


def read_descriptor(number: int, path: str) -> Descriptor:
    """Returns the facts. Raises OSError."""
    status, flags = os.fstat(number), fcntl.fcntl(number, fcntl.F_GETFL)
    mode = status.st_mode
    kind, thing = _socket(number) if stat.S_ISSOCK(mode) else (None, "")
    is_read = stat.S_ISREG(mode) and flags & os.O_ACCMODE != os.O_WRONLY
    return Descriptor(
        number=number,
        path=path,
        mode=mode,
        flags=flags,
        is_locked=is_locked(number),
        is_at_end=_position(number) == status.st_size,
        is_database=is_read and _begins_as_database(number),
        can_be_reopened=_can_be_reopened(number, mode, flags),
        kind=kind,
        thing=thing,
    )


def as_reopened(descriptor: Descriptor) -> ReopenedFile:
    """Copies that write append, so that none overwrites what another has written."""
    flags = descriptor.flags | (os.O_APPEND if descriptor.access == os.O_WRONLY else 0)
    return ReopenedFile(number=descriptor.number, flags=flags, position=_position(descriptor.number))


def reopen(file: ReopenedFile) -> None:
    """Give this process an open file of its own under the same number. Raises OSError."""
    opened = os.open(f"/proc/self/fd/{file.number}", file.flags & ~_OPENING_FLAGS)
    try:
        if file.position:
            os.lseek(opened, file.position, os.SEEK_SET)
        os.dup2(opened, file.number, inheritable=os.get_inheritable(file.number))
    finally:
        os.close(opened)


def _position(number: int) -> int:
    try:
        return os.lseek(number, 0, os.SEEK_CUR)
    except OSError:  # it has none
        return 0


def _begins_as_database(number: int) -> bool:
    try:
        return os.pread(number, len(_DATABASE_HEAD), 0) == _DATABASE_HEAD
    except OSError:
        return False


def _can_be_reopened(number: int, mode: int, flags: int) -> bool:
    if flags & os.O_ACCMODE == os.O_RDWR or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return False
    try:
        os.close(os.open(f"/proc/self/fd/{number}", (flags | os.O_NONBLOCK) & ~_OPENING_FLAGS))
    except OSError:
        return False
    return True


def _socket(number: int) -> tuple[HeldKind, str]:
    with socket.socket(fileno=os.dup(number)) as sock:
        try:
            peer = _address(sock.getpeername())
        except OSError:
            pass
        else:
            return (HeldKind.CONNECTION, peer) if peer else (HeldKind.SOCKET, "one of a pair")
        name = _address(sock.getsockname())
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return HeldKind.LISTENER, name
        return HeldKind.SOCKET, name or sock.type.name


def _address(address: object) -> str:
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case bytes():
            return "@" + os.fsdecode(address[1:]) if address else ""
        case _:
            return str(address)
