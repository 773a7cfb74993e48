"""Arguments are held against type hints, and all that is wrong with a call is told at once."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
import pytest
from pydantic import BaseModel, Field, field_validator
from typing_extensions import TypedDict

from offload.core.job import Reason
from offload.errors import TaskDefinitionError
from tests.unit.tasks.calling import compiled, errors, fault, result

if typing.TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # that it is not there is the point


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    number: int
    parent: Model | None = None

    @field_validator("number")
    @classmethod
    def judge(cls, number: int) -> int:
        if number == 1:
            raise ValueError("1 is not liked")
        if number == 2:
            raise KeyError("the validator is broken")
        if number == 3:
            raise SystemExit(3)
        return number


@dataclass
class Point:
    x: int
    y: list[int]


class Options(TypedDict):
    deep: bool


def bounded(limit: Annotated[int, Field(ge=0, le=10, description="Where to stop.")], title: str = "none") -> str:
    """Works up to a limit."""
    return f"{title} {limit}"


def models(model: Model, point: Point, options: Options) -> Any:
    return [model.number, point.x, options["deep"]]


def taking(hint: Any) -> Callable[..., Any]:
    """A function with one parameter `x` of that type."""

    def take(x: Any) -> None: ...

    take.__annotations__["x"] = hint
    return take


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (int, 5, 5),
        (float, 5, 5.0),
        (int | str, "x", "x"),
        (int | None, None, None),
        (Literal["a", "b"], "a", "a"),
        (Colour, "red", Colour.RED),
        (datetime, "2026-01-01T00:00:00", datetime(2026, 1, 1)),
        (date, "2026-01-01", date(2026, 1, 1)),
        (UUID, "12345678123456781234567812345678", UUID(int=0x12345678123456781234567812345678)),
        (Decimal, "1.50", Decimal("1.50")),
        (set[int], [1, 1, 2], {1, 2}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (Model, {"number": 5}, Model(number=5)),
        (Point, {"x": 1, "y": [2]}, Point(1, [2])),
        (Options, {"deep": True}, {"deep": True}),
        (list[Annotated[int, Field(gt=1)]], [2], [2]),
    ],
)
def test_an_argument_arrives_as_its_hint_says(hint: Any, given: object, expected: object) -> None:
    one = compiled(taking(hint))
    assert one.validate(one.decode(orjson.dumps({"x": given}))) == {"x": expected}


def test_all_errors_of_a_call_are_told_at_once() -> None:
    body = b'{"model": {"number": "x", "parent": {"number": 1.5}}, "point": {"x": 1, "y": [1, "b"]}, "more": 1}'
    assert errors(models, body) == {
        "/model/number": "Input should be a valid integer, unable to parse string as an integer",
        "/model/parent/number": "Input should be a valid integer, got a number with a fractional part",
        "/point/y/1": "Input should be a valid integer, unable to parse string as an integer",
        "/options": "This argument is required",
        "/more": "There is no such argument; known are: model, options, point",
    }


def test_a_pointer_leads_to_the_value_whatever_pydantic_tried() -> None:
    def union(x: list[int] | dict[str, int]) -> None: ...

    assert set(errors(union, b'{"x": {"a/b": "y"}}')) == {"/x", "/x/a~1b"}
    assert set(errors(models, b'{"model": {}, "point": {"x": 1, "y": []}, "options": {"deep": 1}}')) == {
        "/model/number"
    }


def test_a_validators_own_words_reach_the_caller() -> None:
    assert errors(taking(Model), b'{"x": {"number": 1}}') == {"/x/number": "1 is not liked"}


@pytest.mark.parametrize(("number", "exception"), [(2, "KeyError"), (3, "SystemExit")])
def test_a_validator_that_fails_by_itself_is_the_tasks_error(number: int, exception: str) -> None:
    found = fault(taking(Model), b'{"x": {"number": %d}}' % number)
    assert (found.reason, found.fields["exception"]) == (Reason.TASK_ERROR, exception)


def test_bounds_are_kept() -> None:
    assert result(bounded, b'{"limit": 10}') == "none 10"
    assert errors(bounded, b'{"limit": 11}') == {"/limit": "Input should be less than or equal to 10"}


def test_what_was_given_is_not_told_back_at_length() -> None:
    found = fault(taking(Literal["a"]), orjson.dumps({"x": "b" * 1_000_000}))
    assert len(found.to_json()) < 1_000


def test_many_errors_are_counted_and_not_listed() -> None:
    found = fault(taking(list[int]), orjson.dumps({"x": ["a"] * 1_000}))
    assert len(found.fields["errors"]) == 101
    assert found.fields["errors"][-1]["detail"] == "900 more errors are not listed"


def test_a_flood_of_errors_is_told_by_argument() -> None:
    def take(x: list[int], y: int, z: int) -> None: ...

    found = fault(take, orjson.dumps({"x": ["a"] * 20_000, "y": "b"}))
    assert found.fields["errors"] == [
        {"pointer": "/x", "detail": "20,000 errors in it"},
        {"pointer": "/y", "detail": "1 errors in it"},
        {"pointer": "", "detail": "20,000 more errors are not listed"},
    ]


def test_the_schema_has_descriptions_bounds_and_defaults() -> None:
    assert compiled(bounded).arguments_schema() == {
        "type": "object",
        "properties": {
            "limit": {
                "type": "integer",
                "title": "Limit",
                "description": "Where to stop.",
                "minimum": 0,
                "maximum": 10,
            },
            "title": {"type": "string", "title": "Title", "default": "none"},
        },
        "required": ["limit"],
        "additionalProperties": False,
    }
    assert compiled(bounded).result_schema() == {"type": "string"}


def test_a_schema_says_nothing_of_what_it_cannot_express() -> None:
    def take(x: Annotated[int, Field(ge=1)], call: Callable[[], int] | None = None) -> Callable[[], int]:
        return call or int

    schema = compiled(take).arguments_schema()
    assert schema["properties"]["x"]["minimum"] == 1
    assert compiled(take).result_schema() is None


class Opaque: ...


def unknown_type(x: Opaque) -> None: ...


def unresolved(first: int, x: Unknown) -> None: ...


def field_as_default(x: int = Field(3)) -> None: ...


def any_number_of(*numbers: int) -> None: ...


def two_bodies(x: bytes, y: bytes) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (unknown_type, "the type of parameter 'x': Unable to generate pydantic-core schema for"),
        (unresolved, "the annotation of parameter 'x', 'Unknown', cannot be resolved: name 'Unknown' is not defined"),
        (field_as_default, "the default of 'x' is a Field"),
        (two_bodies, "only one parameter can be the request's body, not x and y"),
        (any_number_of, r"`\*numbers` is not supported"),
    ],
)
def test_hints_that_cannot_be_used_are_refused_at_load(function: Callable[..., Any], why: str) -> None:
    with pytest.raises(TaskDefinitionError, match=why):
        compiled(function)


def test_an_unresolvable_result_is_no_obstacle() -> None:
    def take(x: int) -> Unknown:
        return x

    assert result(take, b'{"x": 1}') == 1
    assert compiled(take).result_schema() is None
