"""Any exception of a task can be reported as JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from offload.core.outcome import Reason
from offload.tasks.faults import MAX_MESSAGE_LENGTH, Fault, task_error


class SilentError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class WrongError(Exception):
    def __str__(self) -> Any:
        return 3  # noqa: PLE0307  # deliberately wrong


class Trap(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        raise ValueError

    def encode(self, *args: Any) -> Any:
        raise ValueError

    __len__ = __getitem__  # type: ignore[assignment]  # every method fails


class TrappedError(Exception):
    def __str__(self) -> str:
        return Trap("still readable")


class LyingType(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # deliberately wrong
        raise ValueError


class LyingError(Exception, metaclass=LyingType):
    pass


@pytest.mark.parametrize(
    ("error", "exception", "message"),
    [
        (ValueError("no model"), "ValueError", "no model"),
        (KeyError("x"), "KeyError", "'x'"),
        (SystemExit(3), "SystemExit", "3"),
        (MemoryError(), "MemoryError", ""),
        (ValueError("\ud800"), "ValueError", "?"),
        (SilentError(), "SilentError", "(no message: __str__ raised SystemExit)"),
        (WrongError(), "WrongError", "(no message: __str__ raised TypeError)"),
        (TrappedError(), "TrappedError", "still readable"),
        (LyingError("x"), "LyingError", "x"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "value",
)
def test_an_exception_is_reported_with_its_name_and_message(error: BaseException, exception: str, message: str) -> None:
    found = task_error(error)
    fields = orjson.loads(found.to_json())
    assert found.reason is Reason.TASK_ERROR
    raised = f"{exception}: {message}" if message else exception
    detail = f"The task raised {raised}. Change the arguments or fix the task."
    assert fields == {"detail": detail, "exception": exception, "message": message}


def test_a_long_message_is_cut() -> None:
    found = task_error(ValueError("x" * 10_000_000))
    assert found.fields["detail"] == (
        f"The task raised ValueError: {'x' * 300}…. Change the arguments or fix the task."
    )
    assert found.fields["message"] == "x" * MAX_MESSAGE_LENGTH + "… (9,998,000 more characters)"
    assert len(found.to_json()) < 5_000


def test_a_fault_becomes_json_with_any_fields() -> None:
    found = Fault(Reason.TASK_ERROR, detail="\ud800", many=[{"\ud800": 2**70}], odd=object(), number=1.5)
    fields = orjson.loads(found.to_json())
    assert fields["detail"] == "?"
    assert fields["many"] == [{"?": str(2**70)}]
    assert fields["number"] == 1.5
    assert str(found) == "\ud800"
