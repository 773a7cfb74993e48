"""What copies of a process may share, and how the rest is reported."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from offload.worker.imports.holdings import Descriptor, Finding, HeldKind, can_be_copied, conflict_of, report, sentences

FILE, PIPE, DEVICE, DIRECTORY = stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR


def descriptor(mode: int, path: str, flags: int, **facts: Any) -> Descriptor:
    return Descriptor(number=7, mode=mode, path=path, flags=flags, **facts)


@pytest.mark.parametrize(
    "shared",
    [
        descriptor(FILE, "/data/words.txt", os.O_RDONLY),
        descriptor(FILE, "/data/app.log", os.O_WRONLY | os.O_APPEND),
        descriptor(DIRECTORY, "/data", os.O_RDONLY),
        descriptor(DEVICE, "/dev/urandom", os.O_RDONLY),
        descriptor(DEVICE, "/dev/null", os.O_RDWR),
        descriptor(DEVICE, "/dev/pts/3", os.O_RDWR),
        descriptor(0, "anon_inode:[pidfd]", os.O_RDWR),
    ],
    ids=lambda shared: shared.path,
)
def test_copies_share_what_has_no_state_or_is_opened_again(shared: Descriptor) -> None:
    assert conflict_of(shared) is None


@pytest.mark.parametrize(
    ("held", "kind", "thing"),
    [
        (descriptor(FILE, "/a.db", os.O_RDWR, is_database=True), HeldKind.DATABASE, "/a.db"),
        (descriptor(FILE, "/a.db", os.O_RDONLY, is_database=True), HeldKind.DATABASE, "/a.db"),
        (descriptor(FILE, "/a.bin", os.O_RDWR), HeldKind.FILE, "/a.bin"),
        (descriptor(FILE, "/tmp/#12 (deleted)", os.O_RDWR), HeldKind.FILE, "a temporary file"),
        (descriptor(FILE, "/secret", os.O_RDONLY, can_be_reopened=False), HeldKind.UNSHARED_FILE, "/secret"),
        (descriptor(FILE, "/app.pid", os.O_WRONLY, is_locked=True), HeldKind.LOCK, "/app.pid"),
        (descriptor(FILE, "/app.log", os.O_WRONLY), HeldKind.EMPTIED, "/app.log"),
        (descriptor(FILE, "/app.log", os.O_WRONLY, is_at_end=False), HeldKind.MOVED_FILE, "/app.log"),
        (descriptor(PIPE, "pipe:[77]", os.O_RDONLY), HeldKind.PIPE, "a pipe"),
        (descriptor(PIPE, "/run/orders", os.O_RDONLY), HeldKind.PIPE, "the pipe /run/orders"),
        (descriptor(DEVICE, "/dev/nvidia0", os.O_RDWR), HeldKind.DEVICE, "/dev/nvidia0"),
        (descriptor(0, "anon_inode:[eventpoll]", os.O_RDWR), HeldKind.EVENTS, "eventpoll"),
        (
            descriptor(stat.S_IFSOCK, "socket:[9]", os.O_RDWR, kind=HeldKind.CONNECTION, thing="10.0.0.1:80"),
            HeldKind.CONNECTION,
            "10.0.0.1:80",
        ),
    ],
    ids=lambda value: getattr(value, "path", None),
)
def test_copies_do_not_share_what_they_would_disturb(held: Descriptor, kind: HeldKind, thing: str) -> None:
    assert conflict_of(held) == (kind, thing)


def test_each_copy_opens_files_again() -> None:
    """For a position and locks of its own."""
    assert descriptor(FILE, "/words.txt", os.O_RDONLY).is_reopened
    assert descriptor(FILE, "/app.log", os.O_WRONLY | os.O_APPEND).is_reopened
    assert not descriptor(FILE, "/app.log", os.O_WRONLY | os.O_APPEND, can_be_reopened=False).is_reopened
    assert not descriptor(DEVICE, "/dev/urandom", os.O_RDONLY).is_reopened


@pytest.mark.parametrize("kind", HeldKind)
def test_only_files_that_are_written_are_shared(kind: HeldKind) -> None:
    assert can_be_copied([found(kind)]) == (kind is HeldKind.EMPTIED)


def found(kind: HeldKind, thing: str = "X", target: str = "tasks.py") -> Finding:
    return Finding(target=target, kind=kind, thing=thing)


CONNECTED = "tasks.py opened a connection to 127.0.0.1:5432 at import; open it in `@on_worker_start`"
CONSEQUENCE = ". Until then each worker imports tasks.py anew, and starts more slowly"


@pytest.mark.parametrize(("start_method", "end"), [("forkserver", CONSEQUENCE), ("fork", CONSEQUENCE), ("spawn", "")])
def test_a_connection_is_reported_with_each_start_method(start_method: str, end: str) -> None:
    assert report([found(HeldKind.CONNECTION, "127.0.0.1:5432")], start_method=start_method) == [CONNECTED + end]


def test_under_spawn_nothing_is_reported_that_only_a_copy_would_share() -> None:
    findings = [found(HeldKind.THREAD), found(HeldKind.GENERATOR), found(HeldKind.FILE)]
    assert report(findings, start_method="spawn") == []
    assert len(report(findings, start_method="forkserver")) == 3


def test_an_emptied_file_is_reported_where_each_worker_empties_it() -> None:
    emptied = (
        "tasks.py opened app.log for writing at import; each worker empties it when it starts; open it with mode 'a'"
    )
    file = found(HeldKind.EMPTIED, "app.log")
    assert report([file], start_method="spawn") == [emptied]
    assert report([file], start_method="forkserver") == []
    assert report([file, found(HeldKind.THREAD)], start_method="fork")[0] == emptied


@pytest.mark.parametrize(
    ("things", "named"),
    [
        (["a"], "a"),
        (["a", "a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_things_of_one_kind_are_in_one_sentence(things: list[str], named: str) -> None:
    (sentence,) = sentences(found(HeldKind.DATABASE, thing) for thing in things)
    assert sentence == f"tasks.py opened the database {named} at import; open it in `@on_worker_start`"


def test_each_target_has_its_own_sentence() -> None:
    findings = [found(HeldKind.THREAD, "the thread 'one'"), found(HeldKind.THREAD, "the thread 'two'", "other.py")]
    assert [sentence.split()[0] for sentence in sentences(findings)] == ["tasks.py", "other.py"]
