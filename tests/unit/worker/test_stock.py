"""What this process holds after an import that it did not hold before."""

from __future__ import annotations

import copy
import fcntl
import gc
import mmap
import os
import random
import selectors
import signal
import sqlite3
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offload.worker.imports.descriptor_facts import reopen
from offload.worker.imports.holdings import HeldKind
from offload.worker.imports.seeds import SeedWatch, seed_again
from offload.worker.imports.stock import Holdings, Stock

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; NOT tested here"),
    pytest.mark.usefixtures("numpy_without_seed"),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Releases what a test holds; the garbage collector looks at all objects again."""
    with ExitStack() as stack:
        yield stack
    gc.unfreeze()


def held(make: Callable[[], object]) -> tuple[Holdings, object]:
    """Returns what is held after `make`, and its value."""
    stock, holdings, seeds = Stock(), Holdings(), SeedWatch()
    with seeds.watching():
        value = make()
    stock.add_to(holdings, "tasks.py", seeds)
    return holdings, value


def kinds(holdings: Holdings) -> list[HeldKind]:
    return [finding.kind for finding in holdings.findings]


def test_nothing_is_found_if_nothing_is_made(stack: ExitStack) -> None:
    holdings, _ = held(lambda: None)
    assert holdings == Holdings()


def test_a_file_that_is_read_is_opened_again_at_its_position(stack: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"apple berry")

    def read_some() -> int:
        number = os.open(path, os.O_RDONLY)
        stack.callback(os.close, number)
        os.read(number, 6)
        return number

    holdings, value = held(read_some)
    assert isinstance(value, int)
    assert (kinds(holdings), holdings.descriptors) == ([], {value})
    (file,) = holdings.files
    other = os.dup(value)
    stack.callback(os.close, other)
    reopen(file)
    assert os.read(value, 100) == b"berry"
    assert os.lseek(other, 0, os.SEEK_CUR) == 6
    assert not os.get_inheritable(value)


def open_archive(path: Path) -> zipfile.ZipFile:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("words", "apple")
    return zipfile.ZipFile(path)


def open_temporary(path: Path) -> Any:
    return tempfile.TemporaryFile(dir=path.parent)


def open_database(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path)


def open_for_writing(path: Path) -> Any:
    return path.open("w")


def open_for_appending(path: Path) -> Any:
    return path.open("a")


def lock(path: Path) -> Any:
    file = path.open("a")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (open_archive, []),
        (open_for_appending, []),
        (open_for_writing, [HeldKind.EMPTIED]),
        (open_temporary, [HeldKind.FILE]),
        (open_database, [HeldKind.FILE]),  # still empty
        (lock, [HeldKind.LOCK]),
        (lambda path: selectors.EpollSelector(), [HeldKind.EVENTS]),
        (lambda path: mmap.mmap(-1, 100), [HeldKind.MEMORY]),
        (lambda path: np.random.default_rng(), [HeldKind.GENERATOR]),
        (lambda path: np.random.default_rng(42), [HeldKind.GENERATOR]),
        (lambda path: np.random.RandomState(), [HeldKind.GENERATOR]),
        (lambda path: random.Random(7), [HeldKind.GENERATOR]),
        (lambda path: copy.copy(random.Random()), [HeldKind.GENERATOR]),
        (lambda path: random.Random(), []),
        (lambda path: random.SystemRandom(), []),
    ],
)
def test_what_a_module_makes(
    make: Callable[[Path], Any], found: list[HeldKind], stack: ExitStack, tmp_path: Path
) -> None:
    holdings, value = held(lambda: make(tmp_path / "file"))
    if hasattr(value, "close"):
        stack.callback(value.close)
    assert kinds(holdings) == found


def test_a_temporary_directory_is_found_until_it_is_removed(stack: ExitStack) -> None:
    holdings, directory = held(tempfile.TemporaryDirectory)
    assert isinstance(directory, tempfile.TemporaryDirectory)
    assert [(finding.kind, finding.thing) for finding in holdings.findings] == [(HeldKind.DIRECTORY, directory.name)]

    def make_and_remove() -> object:
        directory.cleanup()
        return directory

    assert kinds(held(make_and_remove)[0]) == []


def test_a_running_thread_is_found_by_its_name(stack: ExitStack) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="poller")
    stack.callback(thread.join)
    stack.callback(done.set)
    holdings, _ = held(thread.start)
    assert [(finding.kind, finding.thing) for finding in holdings.findings] == [
        (HeldKind.THREAD, "the thread 'poller'")
    ]


def seed_common() -> None:
    from random import seed

    seed(42)


@pytest.mark.parametrize("seed", [seed_common, lambda: random.setstate(random.getstate())])
def test_a_seed_of_the_common_random_numbers_is_found(seed: Callable[[], object], stack: ExitStack) -> None:
    assert kinds(held(seed)[0]) == [HeldKind.SEED]


@pytest.fixture
def numpy_without_seed() -> Iterator[None]:
    numpy_random: Any = np.random  # the stubs lack these two functions
    before = numpy_random.get_bit_generator()
    numpy_random.set_bit_generator(np.random.MT19937())
    yield
    numpy_random.set_bit_generator(before)


def draw() -> None:
    random.random()
    np.random.random()
    vars(random)["seed"]()


def test_drawing_common_random_numbers_is_no_seed(stack: ExitStack) -> None:
    assert kinds(held(draw)[0]) == []


def test_a_seed_of_numpy_is_found(stack: ExitStack) -> None:
    assert kinds(held(lambda: np.random.seed(42))[0]) == [HeldKind.SEED]


def test_generators_without_a_seed_are_seeded_anew_in_each_copy(stack: ExitStack) -> None:
    holdings, generator = held(random.Random)
    assert holdings.generators == [generator]
    assert isinstance(generator, random.Random)
    before = generator.getstate()
    seed_again(generator)
    assert generator.getstate() != before


def test_the_methods_of_random_are_the_librarys_again(stack: ExitStack) -> None:
    before = random.seed, random.setstate, random.Random.seed, random.Random.setstate
    held(lambda: None)
    assert (random.seed, random.setstate, random.Random.seed, random.Random.setstate) == before


def test_a_file_that_is_written_is_opened_again_for_appending(stack: ExitStack, tmp_path: Path) -> None:
    """So copies do not overwrite each other's lines, and a lock of one excludes the other."""
    path = tmp_path / "app.log"

    def write_some() -> int:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        stack.callback(os.close, number)
        os.write(number, b"head ")
        return number

    holdings, value = held(write_some)
    assert isinstance(value, int)
    sibling = os.dup(value)
    stack.callback(os.close, sibling)
    reopen(holdings.files[0])
    os.write(sibling, b"one ")
    os.write(value, b"two ")
    assert path.read_bytes() == b"head one two "
    fcntl.flock(value, fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError):
        fcntl.flock(sibling, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_generator_of_temporary_names_is_not_the_users(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_name_sequence", None)
    with tempfile.TemporaryDirectory() as directory:
        holdings, _ = held(lambda: os.rmdir(tempfile.mkdtemp(dir=directory)))
    assert kinds(holdings) == []


def test_a_signal_handler_is_noted(stack: ExitStack) -> None:
    def handle(*_: object) -> None: ...

    before = signal.getsignal(signal.SIGUSR1)
    stack.callback(signal.signal, signal.SIGUSR1, before)
    holdings, _ = held(lambda: signal.signal(signal.SIGUSR1, handle))
    assert holdings.signals == {signal.SIGUSR1: handle}
