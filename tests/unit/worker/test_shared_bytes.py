"""Memory that travels: whole, sealed, and nothing but what it was announced as."""

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
    """As the other side gets it: a descriptor of its own."""
    return SharedBytes.received(os.dup(memory.fileno()), size_bytes)


def test_what_was_written_in_pieces_is_whole() -> None:
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


def test_what_was_not_finished_is_given_up() -> None:
    writer = SharedWriter()
    writer.write(DATA)
    writer.close()
    writer.close()


@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_its_size_is_fixed(size: int, is_final: bool) -> None:
    """Memory that shrinks under a reader who has mapped it kills the reader."""
    memory = made(DATA, is_final=is_final)
    with pytest.raises(PermissionError):
        os.ftruncate(memory.fileno(), size)
    memory.close()


def test_what_is_final_can_be_changed_by_nobody() -> None:
    memory = made(DATA, is_final=True)
    with pytest.raises(PermissionError):
        os.pwrite(memory.fileno(), b"x", 0)
    with pytest.raises(PermissionError):
        memory.use_up()
    assert memory.read(0, SIZE) == DATA
    memory.close()


def test_what_is_used_up_takes_no_memory_and_keeps_its_length() -> None:
    memory = made(DATA)
    memory.use_up()
    assert not memory.is_whole
    assert os.fstat(memory.fileno()).st_blocks == 0
    assert memory.read(0, SIZE) == bytes(SIZE)
    memory.close()


def test_a_mapping_can_be_read_only_and_lives_on_by_itself() -> None:
    memory = made(DATA)
    mapping = memory.map()
    memory.close()
    view = memoryview(mapping)
    assert view.readonly
    assert view == DATA
    view.release()
    mapping.close()


def test_what_another_process_made_final_is_taken() -> None:
    memory = made(DATA, is_final=True)
    other = received(memory, SIZE)
    memory.close()
    assert other.read(0, SIZE) == DATA
    other.close()


@pytest.mark.parametrize("size_bytes", [0, SIZE - 1, SIZE + 1])
def test_memory_of_another_size_than_announced_is_garbage(size_bytes: int) -> None:
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
def test_descriptors_of_anything_else_are_garbage_and_closed(make: Callable[[], int]) -> None:
    descriptor = make()
    with pytest.raises(FrameError):
        SharedBytes.received(descriptor, SIZE)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)


@pytest.mark.parametrize("call", ["memfd_create", "write"])
def test_where_the_system_gives_no_memory_there_is_none(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, call, fail)
    assert shared(DATA, is_final=True) is None


def test_where_the_system_knows_no_such_memory_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert shared(DATA, is_final=True) is None
