"""docs/tasks.md lists what a job may leave behind: what the tests leave behind, and nothing else."""

from __future__ import annotations

from tests.project.documentation import page, rows
from tests.service.leftovers import LEFT_BEHIND


def test_what_the_documentation_lists_is_what_the_tests_leave_behind() -> None:
    documented = dict(rows(page("tasks.md"), "a job leaves behind"))
    assert documented == {left: fate for left, (fate, _) in LEFT_BEHIND.items()}
