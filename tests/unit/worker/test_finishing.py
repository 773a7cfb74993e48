"""What files have buffered is written at the end of a worker."""

from __future__ import annotations

import atexit
import errno
import gc
import os
from pathlib import Path

import pytest

from offload.worker.finishing import finish, flush_files, leave_alone, take_over


@pytest.mark.parametrize("mode", ["w", "a", "wb", "r+b"])
def test_what_a_file_has_buffered_is_written(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "results"
    path.touch()
    with path.open(mode) as file:
        file.write(b"result" if "b" in mode else "result")
        assert path.read_bytes() == b""
        flush_files()
        assert path.read_bytes() == b"result"


def test_files_of_before_a_freeze_are_left_alone(tmp_path: Path) -> None:
    """They belong to the process that this one is a copy of."""
    path = tmp_path / "results"
    with path.open("w") as file:
        file.write("result")
        gc.freeze()
        try:
            flush_files()
        finally:
            gc.unfreeze()
        assert path.read_bytes() == b""


def test_the_applications_files_are_left_alone_after_a_fork(tmp_path: Path) -> None:
    """The application writes what it has buffered; a copy would write it again."""
    path = tmp_path / "results"
    with path.open("w") as file:
        file.write("result")
        leave_alone([file.fileno()])
        try:
            flush_files()
            assert path.read_bytes() == b""
        finally:
            take_over([file.fileno()])
        flush_files()
        assert path.read_bytes() == b"result"


def test_closed_and_detached_files_are_no_obstacle(tmp_path: Path) -> None:
    closed, detached = (tmp_path / "closed").open("w"), (tmp_path / "detached").open("w")
    closed.close()
    buffer = detached.detach()
    flush_files()
    buffer.close()


def test_a_lack_of_descriptors_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(path: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files", path)

    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    monkeypatch.setattr(os, "listdir", no_descriptor)
    path = tmp_path / "results"
    with path.open("w") as file:
        file.write("result")
        finish()
        assert path.read_bytes() == b"result"
