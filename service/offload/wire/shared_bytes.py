"""Bytes in memory of their own, passed between processes as a descriptor and never copied on the way.

Bodies and results of more than LARGE_BYTES travel like this: web fills the memory from a request, a worker with its
result, and `passing` carries the descriptors. The holder of a `SharedBytes` closes it; the garbage collector does not.

The memory is filled from beginning to end, so that it has no holes, and sealed when it is complete, so that it can
neither shrink nor grow. So a process that maps it never gets SIGBUS, whatever the others do.

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

# Below about this size, copies through the stream into warm memory cost less CPU time than fresh pages. Measured: an
# echo of 200 KB took 1.4 ms through the stream and 2.4 ms with shared memory; one of 2 MB took 14.4 ms and 13.2 ms.
LARGE_BYTES: Final = 1 << 20

_STAT_BLOCK_BYTES: Final = 512  # of `st_blocks`, whatever the file system: stat(2)


class SharedBytes:
    """Sealed memory of fixed length."""

    __slots__ = ("_descriptor", "_size_bytes")

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor = descriptor
        self._size_bytes = size_bytes

    @classmethod
    def received(cls, descriptor: int, size_bytes: int) -> Self:
        """Take over the descriptor of memory that another process made and announced with this size.

        Raises FrameError and closes the descriptor if the memory is not sealed or of another size: memory without
        seals could be truncated while it is read.
        """
        try:
            _check(descriptor, size_bytes)
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
        """Whether none of the memory was given back."""
        return os.fstat(self._descriptor).st_blocks * _STAT_BLOCK_BYTES >= self._size_bytes

    def fileno(self) -> int:
        return self._descriptor

    def read(self, start: int, count: int) -> bytes:
        """Returns up to `count` bytes from `start` on; one copy."""
        return os.pread(self._descriptor, count, start)

    def pieces(self, step_bytes: int) -> Iterator[bytes]:
        for start in range(0, self._size_bytes, step_bytes):
            yield self.read(start, step_bytes)

    def map(self) -> mmap.mmap:
        """Returns a read-only mapping, which stays valid after `close`."""
        return mmap.mmap(self._descriptor, self._size_bytes, prot=mmap.PROT_READ)

    def use_up(self) -> None:
        """Give the memory back to the system; it reads as zeros from then on."""
        punch(self._descriptor, self._size_bytes)

    def close(self) -> None:
        """May be called twice. Closing the last descriptor frees the memory, which takes a millisecond for some MB."""
        descriptor = self.detach()
        if descriptor >= 0:
            os.close(descriptor)

    def detach(self) -> int:
        """Mark it as closed and return the descriptor, which the caller closes."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor


class SharedWriter:
    """Memory that is being filled, to be finished or closed. Raises OSError if the system provides none."""

    __slots__ = ("_descriptor", "_size_bytes")

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("offload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append the data; the only copy."""
        count = os.write(self._descriptor, data)
        self._size_bytes += count
        if count < len(data):  # of more than 2 GiB, or when memory ends
            self.write(memoryview(data)[count:])

    def finish(self, *, is_final: bool) -> SharedBytes:
        """Seal the memory. `is_final`: no process can write to it or give it back any more."""
        fcntl.fcntl(self._descriptor, fcntl.F_ADD_SEALS, _seals(is_final=is_final))
        descriptor, self._descriptor = self._descriptor, -1
        return SharedBytes(descriptor, self._size_bytes)

    def close(self) -> None:
        """Discard memory that was not finished. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def shared(data: bytes | bytearray | memoryview, *, is_final: bool) -> SharedBytes | None:
    """Returns a copy of `data` in shared memory; None if the system has no such memory, or none now."""
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
    """Whether this system has memfd."""
    return hasattr(os, "memfd_create")


def _seals(*, is_final: bool) -> int:
    of_size = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
    return of_size | fcntl.F_SEAL_WRITE if is_final else of_size


def _check(descriptor: int, size_bytes: int) -> None:
    wanted = _seals(is_final=True)
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise FrameError("the descriptor is not one of sealable memory") from error
    if seals & wanted != wanted:
        raise FrameError(f"memory has the seals {seals:#x}, expected {wanted:#x}")
    actual = os.fstat(descriptor).st_size
    if actual != size_bytes:
        raise FrameError(f"memory has {actual} bytes, expected {size_bytes}")
