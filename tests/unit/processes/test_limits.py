"""What is left of the limit on open files, and the sentence for what the system refuses."""

from __future__ import annotations

import errno
import os

import pytest

from offload.errors import SurroundingsError
from offload.processes.limits import descriptor_limit, explain, most_connections


@pytest.mark.parametrize(
    ("limit", "workers", "large_bodies", "most"),
    [
        (1024, 2, 256, 1024 - 26 - 20 - 128),
        (1024, 2, 16, 1024 - 26 - 20 - 16),
        (1_048_576, 1024, 256, 1_048_576 - 26 - 10 * 1024 - 256),
        (64, 2, 256, 64 - 26 - 20 - 8),
    ],
)
def test_connections_leave_descriptors_for_workers_and_bodies(
    limit: int, workers: int, large_bodies: int, most: int
) -> None:
    assert most_connections(limit, workers=workers, large_bodies=large_bodies) == most


@pytest.mark.parametrize(("limit", "workers"), [(24, 1), (64, 3), (256, 32)])
def test_a_limit_that_is_too_low_is_named_with_one_that_suffices(limit: int, workers: int) -> None:
    with pytest.raises(SurroundingsError) as caught:
        most_connections(limit, workers=workers, large_bodies=256)
    words = str(caught.value).split()
    assert f"the limit of {limit} open files is too low for {workers}" in str(caught.value)
    enough = next(int(word.strip(",;")) for word in words[words.index("least") :] if word.strip(",;").isdecimal())
    assert most_connections(enough, workers=workers, large_bodies=256) > 0
    with pytest.raises(SurroundingsError):
        most_connections(enough - 1, workers=workers, large_bodies=256)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
            f"too many open files (the limit is {descriptor_limit()}); raise it with `ulimit -n` or LimitNOFILE=",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/x"),
            "No space left on device: /tmp/x; free some space",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"/opt/x"), "Permission denied: /opt/x"),
        (MemoryError(), "not enough memory; use fewer --workers, or raise the limit (`ulimit -v`, MemoryMax=)"),
        (OSError("timed out"), "timed out"),
    ],
)
def test_what_the_system_refuses_is_explained(error: BaseException, text: str) -> None:
    assert str(explain(error, "load the tasks")) == f"cannot load the tasks: {text}"


@pytest.mark.parametrize(
    "error", [RuntimeError("can't start new thread"), BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))]
)
def test_too_many_processes_and_threads_are_one_thing(error: BaseException) -> None:
    assert "too many processes and threads" in str(explain(error, "start"))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(error: BaseException) -> None:
    assert explain(error, "start") is None
