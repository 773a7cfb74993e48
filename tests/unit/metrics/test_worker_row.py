"""Worker rows: the parent knows what had begun, and a death neither loses time nor counts it twice."""

from __future__ import annotations

import time

import pytest

from offload.metrics.layout import WorkerRow, WorkerRows

SECOND_NS = 1_000_000_000


def row_of_memory() -> WorkerRow:
    return WorkerRows(1).worker_row(0)


class Killed(BaseException):
    """Stands for SIGKILL."""


class WordsOfADyingProcess(list[int]):
    """Words that kill their writer before the store number `stores_left`."""

    def __init__(self, stores_left: int) -> None:
        super().__init__([0] * 16)
        self.stores_left = stores_left

    def __setitem__(self, word: object, value: object) -> None:
        if not self.stores_left:
            raise Killed
        self.stores_left -= 1
        super().__setitem__(word, value)  # type: ignore[call-overload]  # passed on to list unchanged


def test_a_new_row_is_idle_and_has_done_nothing() -> None:
    row = row_of_memory()
    assert (row.current_job, row.jobs, row.busy_ns()) == (0, 0, 0)


def test_a_running_job_is_visible() -> None:
    row = row_of_memory()
    began_ns = time.monotonic_ns()
    row.begin(7, began_ns)
    assert (row.current_job, row.busy_since_s(), row.jobs) == (7, began_ns / SECOND_NS, 0)


def test_a_worker_is_busy_from_the_start_of_its_job_to_the_end() -> None:
    row = row_of_memory()
    assert row.busy_since_s() is None
    row.begin(7, 100 * SECOND_NS)
    assert row.busy_since_s() == 100
    row.end(101 * SECOND_NS)
    assert row.busy_since_s() is None


def test_an_ended_job_is_counted_with_its_time() -> None:
    row = row_of_memory()
    row.begin(7, 100 * SECOND_NS)
    row.end(103 * SECOND_NS)
    row.begin(9, 105 * SECOND_NS)
    row.end(106 * SECOND_NS)
    assert (row.current_job, row.jobs, row.busy_ns()) == (9, 2, 4 * SECOND_NS)


def test_busy_time_includes_the_running_job_so_far() -> None:
    row = row_of_memory()
    row.begin(7, time.monotonic_ns() - 5 * SECOND_NS)
    first = row.busy_ns()
    assert 5 * SECOND_NS <= first <= row.busy_ns()


def test_a_death_in_a_job_names_it_and_keeps_its_time() -> None:
    row = row_of_memory()
    row.begin(7, 100 * SECOND_NS)
    assert row.died(102 * SECOND_NS) == 7
    assert (row.current_job, row.jobs, row.busy_ns()) == (0, 0, 2 * SECOND_NS)


def test_a_death_after_a_job_names_it_because_its_answer_may_be_lost() -> None:
    row = row_of_memory()
    row.begin(7, 100 * SECOND_NS)
    row.end(101 * SECOND_NS)
    assert row.died(109 * SECOND_NS) == 7
    assert (row.current_job, row.jobs, row.busy_ns()) == (0, 1, SECOND_NS)


def test_the_successor_of_a_dead_worker_continues_the_counts() -> None:
    row = row_of_memory()
    row.begin(1, 100 * SECOND_NS)
    row.end(101 * SECOND_NS)
    row.begin(2, 102 * SECOND_NS)
    row.died(104 * SECOND_NS)
    row.begin(3, 110 * SECOND_NS)
    row.end(114 * SECOND_NS)
    assert (row.jobs, row.busy_ns()) == (2, 7 * SECOND_NS)


STORES_OF_A_JOB = 5
# `begin` stores the instant, the job and busy; `end` stores busy and the number of jobs.
BEGUN_FROM_STORE = 2
BUSY_S_AFTER_A_DEATH_BEFORE_STORE = (0, 0, 0, 4, 3)


@pytest.mark.parametrize("store", range(STORES_OF_A_JOB))
def test_a_death_between_any_two_stores_leaves_the_row_right(store: int) -> None:
    """The job runs from 100 s to 103 s; the death is seen at 104 s. Its time counts once, wherever it was cut off."""
    words = WordsOfADyingProcess(store)
    row = WorkerRow(words)  # type: ignore[arg-type]  # a list is indexed like a memoryview
    with pytest.raises(Killed):
        row.begin(7, 100 * SECOND_NS)
        row.end(103 * SECOND_NS)
        pytest.fail("the worker should be dead")
    words.stores_left = STORES_OF_A_JOB  # now the parent writes
    had_begun = row.died(104 * SECOND_NS)
    assert had_begun == (7 if store >= BEGUN_FROM_STORE else 0)
    assert row.busy_ns() == BUSY_S_AFTER_A_DEATH_BEFORE_STORE[store] * SECOND_NS
    assert row.current_job == 0
