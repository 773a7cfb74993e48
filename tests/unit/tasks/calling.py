"""Calls a function as a worker does, from the bytes of a request to the bytes of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from offload.core.outcome import Reason
from offload.tasks.definition.decorators import definition_of, task
from offload.tasks.faults import Fault
from offload.tasks.results.encoding import Encoded
from offload.tasks.signature import CompiledTask


def compiled(function: Callable[..., Any]) -> CompiledTask:
    definition = definition_of(function) or definition_of(task(function))
    assert definition is not None
    return CompiledTask(definition)


def answer(
    function: Callable[..., Any],
    body: bytes | memoryview = b"",
    *,
    query: str = "",
    content_type: str = "",
    accept: str = "",
) -> Encoded:
    one = compiled(function)
    return one.encode(one.call(one.validate(one.decode(body, query, content_type))), accept)


def result(function: Callable[..., Any], body: bytes | memoryview = b"", **head: str) -> Any:
    """Returns the result, parsed from JSON."""
    return orjson.loads(answer(function, body, **head).body)


def fault(function: Callable[..., Any], body: bytes | memoryview = b"", **head: str) -> Fault:
    """Returns the fault that the call raises."""
    with pytest.raises(Fault) as caught:
        answer(function, body, **head)
    orjson.loads(caught.value.to_json())
    return caught.value


def errors(function: Callable[..., Any], body: bytes | memoryview = b"", **head: str) -> dict[str, str]:
    """Returns the errors of the `invalid-arguments` fault that the call raises, by pointer."""
    found = fault(function, body, **head)
    assert found.reason is Reason.INVALID_ARGUMENTS
    return {error["pointer"]: error["detail"] for error in found.fields["errors"]}
