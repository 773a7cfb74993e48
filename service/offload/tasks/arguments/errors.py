"""The errors in the arguments of a job, and the fault that lists them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from offload.core.outcome import Reason
from offload.tasks.faults import Fault, pointer_to, shortened

MAX_ERRORS: Final = 100
_MAX_DETAIL_LENGTH: Final = 300
_MAX_KNOWN_NAMES: Final = 20


class ArgumentError(NamedTuple):
    """One error of an `invalid-arguments` fault; `pointer` is a JSON pointer (RFC 6901) into the arguments."""

    pointer: str
    detail: str


ErrorsByName = dict[str, list[ArgumentError]]


def invalid_arguments(errors: Sequence[ArgumentError], *, left_out: int = 0) -> Fault:
    """Returns the fault with at most 100 of `errors`, and one more that counts the rest, including `left_out`."""
    left_out += max(0, len(errors) - MAX_ERRORS)
    listed = [
        {"pointer": shortened(pointer, _MAX_DETAIL_LENGTH), "detail": shortened(detail, _MAX_DETAIL_LENGTH)}
        for pointer, detail in errors[:MAX_ERRORS]
    ]
    count = len(errors[:MAX_ERRORS]) + left_out
    if left_out:
        more = "1 more error is" if left_out == 1 else f"{left_out:,} more errors are"
        listed.append({"pointer": "", "detail": f"{more} not listed"})
    what = "1 error" if count == 1 else f"{count:,} errors"
    detail = f"The arguments have {what}. Correct what `errors` lists and send the job again."
    return Fault(Reason.INVALID_ARGUMENTS, detail=detail, errors=listed)


def missing(*path: str | int) -> ArgumentError:
    return ArgumentError(pointer_to(*path), "This argument is required")


def repeated(path: Sequence[str | int]) -> ArgumentError:
    return ArgumentError(pointer_to(*path), "This name occurs more than once in its object. Send it once")


def unknown(name: str, known: Collection[str]) -> ArgumentError:
    names = ", ".join(sorted(known)[:_MAX_KNOWN_NAMES])
    more = ", …" if len(known) > _MAX_KNOWN_NAMES else ""
    detail = f"Unknown argument. Known arguments: {names}{more}" if known else "The task takes no arguments"
    return ArgumentError(pointer_to(name), detail)


def with_other_errors(found: ErrorsByName, other: Fault) -> list[ArgumentError]:
    """Returns the errors `found`, and those of a check of the remaining arguments."""
    errors = [error for of_one in found.values() for error in of_one]
    known = [pointer_to(name) for name in found]
    for error in other.fields.get("errors", ()):
        if not any(error["pointer"] == one or error["pointer"].startswith(f"{one}/") for one in known):
            errors.append(ArgumentError(**error))
    return errors
