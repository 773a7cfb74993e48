"""Shared memory that is passed on: complete, sealed, and of the announced size."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable

import pytest

from offload.errors import FrameError
from offload.wire.shared_bytes import SharedBytes, SharedWriter, shared
from tests.support.shared_memory import made

SIZE = 100_000
DATA = os.urandom(SIZE)


def received(memory: SharedBytes, size_bytes: int) -> SharedBytes:
    """Returns the memory as the other side receives it, with its own descriptor."""
    return SharedBytes.received(os.dup(memory.fileno()), size_bytes)


def test_memory_written_in_pieces_is_complete() -> None:
    writer = SharedWriter()
    for start in range(0, SIZE, 999):
        writer.write(DATA[start : start + 999])
    memory = writer.finish(is_final=False)
    writer.close()
    assert len(memory) == SIZE
    assert memory.is_whole
    assert memory.read(0, SIZE) == DATA
    assert memory.read(SIZE - 5, 100) == DATA[-5:]
    assert b"".join(memory.pieces(1 << 12)) == DATA
    memory.close()
    memory.close()
    assert memory.is_closed
    assert len(memory) == SIZE


def test_an_unfinished_writer_can_be_closed_twice() -> None:
    writer = SharedWriter()
    writer.write(DATA)
    writer.close()
    writer.close()


@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_the_size_cannot_change(size: int, is_final: bool) -> None:
    """A reader that has mapped memory is killed if the memory shrinks."""
    memory = made(DATA, is_final=is_final)
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fileno(), size)
    memory.close()


def test_final_memory_cannot_be_changed() -> None:
    memory = made(DATA, is_final=True)
    with pytest.raises(PermissionError):
        os.pwrite(memory.fileno(), b"x", 0)
    with pytest.raises(PermissionError):
        memory.use_up()
    assert memory.read(0, SIZE) == DATA
    memory.close()


def test_used_up_memory_is_freed_and_keeps_its_length() -> None:
    memory = made(DATA)
    memory.use_up()
    assert not memory.is_whole
    assert os.fstat(memory.fileno()).st_blocks == 0
    assert memory.read(0, SIZE) == bytes(SIZE)
    memory.close()


def test_a_mapping_is_read_only_and_outlives_its_descriptor() -> None:
    memory = made(DATA)
    mapping = memory.map()
    memory.close()
    view = memoryview(mapping)
    assert view.readonly
    assert view == DATA
    view.release()
    mapping.close()


def test_final_memory_of_another_process_is_accepted() -> None:
    memory = made(DATA, is_final=True)
    other = received(memory, SIZE)
    memory.close()
    assert other.read(0, SIZE) == DATA
    other.close()


@pytest.mark.parametrize("size_bytes", [0, SIZE - 1, SIZE + 1])
def test_memory_of_another_size_than_announced_is_rejected(size_bytes: int) -> None:
    memory = made(DATA, is_final=True)
    with pytest.raises(FrameError):
        received(memory, size_bytes)
    memory.close()


def pipe() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def file(directory: str | None = None) -> int:
    with tempfile.TemporaryFile(dir=directory) as opened:
        opened.truncate(SIZE)
        return os.dup(opened.fileno())


def memory_with(seals: int) -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


@pytest.mark.parametrize(
    "make",
    [
        pipe,
        file,
        lambda: file("/dev/shm"),
        lambda: os.open("/dev/zero", os.O_RDONLY),
        lambda: memory_with(0),
        lambda: memory_with(fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE),
        lambda: memory_with(fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE),
        lambda: memory_with(fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW),
    ],
    ids=["pipe", "file", "file in memory", "device", "no seals", "may shrink", "may grow", "may be written"],
)
def test_any_other_descriptor_is_rejected_and_closed(make: Callable[[], int]) -> None:
    descriptor = make()
    with pytest.raises(FrameError):
        SharedBytes.received(descriptor, SIZE)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_a_system_without_free_memory_gives_none(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, call, fail)
    assert shared(DATA, is_final=True) is None


def test_a_system_without_memfd_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert shared(DATA, is_final=True) is None
