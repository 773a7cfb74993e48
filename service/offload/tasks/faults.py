"""`Fault`, which ends a job with a reason and the fields of its problem document, and its making from exceptions.

The user's exceptions and values may do anything when they are inspected; no function here raises because of that.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from offload.core.outcome import Reason
from offload.errors import OffloadError

MAX_MESSAGE_LENGTH: Final = 2_000
_MAX_NAME_LENGTH: Final = 200
_MAX_MESSAGE_IN_DETAIL: Final = 300
# How lines of pydantic's messages begin that do not help the user of a task file.
_REMARKS: Final = ("If you got this error by calling handler", "For further information visit")


class Fault(OffloadError):
    """Ends the job with `reason`.

    `fields` are the problem's own members, including `detail`. `traceback` goes to the log; it is empty unless the task
    raised.
    """

    def __init__(self, reason: Reason, *, detail: str, **fields: Any) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.fields: dict[str, Any] = {"detail": detail, **fields}
        self.traceback = ""

    def __str__(self) -> str:
        return str(self.fields["detail"])

    def to_json(self) -> bytes:
        """Returns the fields as a JSON object; never raises. Lone surrogates are replaced."""
        try:
            return orjson.dumps(self.fields)
        except TypeError:
            return orjson.dumps(_encodable_copy(self.fields))


def task_error(error: BaseException) -> Fault:
    """Returns the fault for an exception that the task raised."""
    name, message = exception_name(error), exception_message(error)
    cut = message if len(message) <= _MAX_MESSAGE_IN_DETAIL else f"{message[:_MAX_MESSAGE_IN_DETAIL]}…"
    raised = f"{name}: {cut}" if cut else name
    detail = f"The task raised {raised.rstrip('.')}. Change the arguments or fix the task."
    return Fault(Reason.TASK_ERROR, detail=detail, exception=name, message=message)


def pointer_to(*segments: str | int) -> str:
    """Returns the JSON pointer of a member; RFC 6901, section 3, defines the escapes."""
    return "".join("/" + str(segment).replace("~", "~0").replace("/", "~1") for segment in segments)


def exception_name(error: BaseException) -> str:
    """Returns the name of the exception's type, without its module."""
    return shortened(_type_attribute("__name__", error), _MAX_NAME_LENGTH)


def exception_message(error: BaseException) -> str:
    """Returns `str(error)`, up to 2,000 characters, or the reason why `__str__` failed."""
    try:
        return shortened(str(error), MAX_MESSAGE_LENGTH)
    except BaseException as fault:  # `__str__` may raise anything, SystemExit included
        return f"(no message: __str__ raised {exception_name(fault)})"


def full_type_name(value: object) -> str:
    """Returns the name of the type with its module, as in "builtins.list"."""
    module, name = _type_attribute("__module__", value), _type_attribute("__qualname__", value)
    return shortened(f"{module}.{name}", _MAX_NAME_LENGTH)


def in_one_line(message: str) -> str:
    """Returns the lines of a message joined, without pydantic's remarks to authors of types and its links."""
    lines = [" ".join(line.split()) for line in message.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(_REMARKS))


def shortened(text: str, length: int) -> str:
    """Returns `text` as an exact `str` that can be encoded, cut to `length` characters plus a note of the rest."""
    kept = str.__getitem__(text, slice(length))  # a subclass may override slicing and encoding
    kept = kept.encode("utf-8", "replace").decode("utf-8")
    left_out = str.__len__(text) - length
    return f"{kept}… ({left_out:,} more characters)" if left_out > 0 else kept


def _type_attribute(name: str, value: object) -> str:
    attribute = type.__dict__[name].__get__(type(value))  # a metaclass may override it
    return attribute if isinstance(attribute, str) else "?"


def _encodable_copy(value: object) -> object:
    """Returns a copy that can be encoded; the fields of a fault are small and never cyclic."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {str(_encodable_copy(str(key))): _encodable_copy(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable_copy(item) for item in value]
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 64 else str(value)  # noqa: PLR2004  # the width of a machine integer
    return shortened(object.__repr__(value), _MAX_NAME_LENGTH)
