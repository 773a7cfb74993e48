"""Bytes in memory of their own, which goes from process to process as a descriptor and is never copied on the way.

Lives here: making such memory, filling it piece by piece, sealing it, and judging one that somebody else made.  A body
or a result of more than LARGE_BYTES travels so: `web` fills one from a request, a worker one with its result, and
`passing` carries the descriptors.  Whoever holds one closes it; nothing here waits for the garbage collector.

The memory is filled from its beginning to its end, so that it has no holes, and sealed when it is whole: it can neither
shrink nor grow any more.  A process that maps it need not fear SIGBUS, whatever the others do.

Source: memfd_create(2), fcntl(2) "File Sealing".
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from typing import Final, Self

from offload.errors import FrameError
from offload.wire.memory import punch

# Up to about here the copies through the stream, into memory that is warm, cost less CPU time than fresh pages: an echo
# of 200 KB took 1.4 ms of it so, and 2.4 ms with memory of its own; one of 2 MB 14.4 ms, and 13.2 ms.
LARGE_BYTES: Final = 1 << 20

_STAT_BLOCK_BYTES: Final = 512  # of `st_blocks`, whatever the file system: stat(2)


class SharedBytes:
    """Sealed, and as long as it was made.  Has a length, and is otherwise read where it is needed."""

    __slots__ = ("_descriptor", "_size_bytes")

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes

    @classmethod
    def received(cls, descriptor: int, size_bytes: int) -> Self:
        """What another process has made and announced with this size; the descriptor is ours from here on.

        Raises FrameError, and closes the descriptor, if it is anything else: what is not sealed could be taken away
        under whoever reads it.
        """
        try:
            _judge(descriptor, size_bytes)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, size_bytes)

    def __len__(self) -> int:
        return self._size_bytes

    @property
    def is_closed(self) -> bool:
        return self._descriptor < 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it was given back."""
        return os.fstat(self._descriptor).st_blocks * _STAT_BLOCK_BYTES >= self._size_bytes

    def fileno(self) -> int:
        return self._descriptor

    def read(self, start: int, count: int) -> bytes:
        """Up to so many bytes from there on; one copy."""
        return os.pread(self._descriptor, count, start)

    def pieces(self, step_bytes: int) -> Iterator[bytes]:
        for start in range(0, self._size_bytes, step_bytes):
            yield self.read(start, step_bytes)

    def map(self) -> mmap.mmap:
        """A read-only mapping, which lives on by itself."""
        return mmap.mmap(self._descriptor, self._size_bytes, prot=mmap.PROT_READ)

    def use_up(self) -> None:
        """Gives the memory back to the system; from here on there are zeros.  For one that nobody will read again."""
        punch(self._descriptor, self._size_bytes)

    def close(self) -> None:
        """May be called twice.  If nobody else has it, the system frees its memory, a millisecond for some MB."""
        descriptor = self.detach()
        if descriptor >= 0:
            os.close(descriptor)

    def detach(self) -> int:
        """Closed for all who ask here, while the descriptor is the caller's to close."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor


class SharedWriter:
    """Memory that is being filled, to be closed or finished.  Raises OSError where the system gives none."""

    __slots__ = ("_descriptor", "_size_bytes")

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("offload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Adds it at the end; the only copy."""
        count = os.write(self._descriptor, data)
        self._size_bytes += count
        if count < len(data):  # of more than 2 GiB, or when memory ends
            self.write(memoryview(data)[count:])

    def finish(self, *, is_final: bool) -> SharedBytes:
        """All of it is there.  `is_final`: nobody can write to it any more, or give its memory back, us included."""
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _seals(is_final=is_final))
        descriptor, self._descriptor = self._descriptor, -1
        return SharedBytes(descriptor, self._size_bytes)

    def close(self) -> None:
        """Gives up what was not finished.  May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def shared(data: bytes | bytearray | memoryview, *, is_final: bool) -> SharedBytes | None:
    """A copy of `data` in memory of its own; None where the system has no such memory, or gives none now."""
    if not is_supported():
        return None
    try:
        writer = SharedWriter()
    except OSError:
        return None
    try:
        writer.write(data)
        return writer.finish(is_final=is_final)
    except OSError:  # no memory, or a limit on the size of files
        return None
    finally:
        writer.close()


def is_supported() -> bool:
    """Whether this system has such memory at all."""
    return hasattr(os, "memfd_create")


def _seals(*, is_final: bool) -> int:
    of_size = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    return of_size | fcntl.F_SEAL_WRITE if is_final else of_size


def _judge(descriptor: int, size_bytes: int) -> None:
    wanted = _seals(is_final=True)
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise FrameError("a descriptor of something that cannot be sealed") from error
    if seals & wanted != wanted:
        raise FrameError(f"memory with the seals {seals:#x} instead of {wanted:#x}")
    actual = os.fstat(descriptor).st_size
    if actual != size_bytes:
        raise FrameError(f"{actual} bytes of memory instead of {size_bytes}")
