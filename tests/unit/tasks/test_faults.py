"""Whatever a task raises can be told, and told in JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from offload.core.job import Reason
from offload.tasks.faults import MAX_MESSAGE_LENGTH, Fault, task_error


class SilentError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


class WrongError(Exception):
    def __str__(self) -> Any:
        return 3  # noqa: PLE0307  # so it goes


class Trap(str):
    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        raise ValueError

    def encode(self, *args: Any) -> Any:
        raise ValueError

    __len__ = __getitem__  # type: ignore[assignment]  # whatever is asked of it fails


class TrappedError(Exception):
    def __str__(self) -> str:
        return Trap("still readable")


class LyingType(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # a lie
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
        (SilentError(), "SilentError", "(no message: its __str__ raised SystemExit)"),
        (WrongError(), "WrongError", "(no message: its __str__ raised TypeError)"),
        (TrappedError(), "TrappedError", "still readable"),
        (LyingError("x"), "LyingError", "x"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else "value",
)
def test_an_exception_is_told_by_name_and_message(error: BaseException, exception: str, message: str) -> None:
    found = task_error(error)
    told = orjson.loads(found.to_json())
    assert found.reason is Reason.TASK_ERROR
    assert (told["exception"], told["message"]) == (exception, message)
    assert told["detail"].startswith(f"The task raised {exception}")


def test_a_message_of_megabytes_is_cut() -> None:
    found = task_error(ValueError("x" * 10_000_000))
    assert found.fields["message"] == "x" * MAX_MESSAGE_LENGTH + "… (9,998,000 characters more)"
    assert len(found.to_json()) < 5_000


def test_a_fault_is_told_in_json_whatever_its_fields_are() -> None:
    found = Fault(Reason.TASK_ERROR, detail="\ud800", many=[{"\ud800": 2**70}], odd=object(), number=1.5)
    told = orjson.loads(found.to_json())
    assert told["detail"] == "?"
    assert told["many"] == [{"?": str(2**70)}]
    assert told["number"] == 1.5
    assert str(found) == "\ud800"
