"""Arguments are validated against type hints, and all errors are reported at once."""

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
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, field_validator
from typing_extensions import TypedDict

from offload.core.outcome import Reason
from offload.errors import TaskDefinitionError
from tests.unit.tasks.calling import compiled, errors, fault, result

if typing.TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]  # deliberately missing


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    number: int
    parent: Model | None = None

    @field_validator("number")
    @classmethod
    def judge(cls, number: int) -> int:
        if number == 1:
            raise ValueError("1 is not allowed")
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
    """Returns a function with one parameter `x` annotated with `hint`."""

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
def test_an_argument_is_converted_to_its_type_hint(hint: Any, given: object, expected: object) -> None:
    one = compiled(taking(hint))
    assert one.validate(one.decode(orjson.dumps({"x": given}))) == {"x": expected}


DIGITS = "0.1234567890123456789012345678"


@pytest.mark.parametrize(
    "digits", [DIGITS, "12345678901234567.89", "1234567890123456789e2", "1.1", "5", "-0.0", "1e-7"]
)
def test_a_decimal_number_keeps_all_digits(digits: str) -> None:
    def take(x: list[Decimal | None], y: float, z: Any) -> None: ...

    one = compiled(take)
    body = b'{"x": [%b, null], "y": %b, "z": 0.30000000000000004}' % (digits.encode(), digits.encode())
    found = one.validate(one.decode(body))
    assert found == {"x": [Decimal(digits), None], "y": float(digits), "z": 0.30000000000000004}
    assert [type(found["y"]), type(found["z"])] == [float, float]


def test_all_errors_of_a_call_are_reported_at_once() -> None:
    body = b'{"model": {"number": "x", "parent": {"number": 1.5}}, "point": {"x": 1, "y": [1, "b"]}, "more": 1}'
    assert errors(models, body) == {
        "/model/number": "Input should be a valid integer, unable to parse string as an integer",
        "/model/parent/number": "Input should be a valid integer, got a number with a fractional part",
        "/point/y/1": "Input should be a valid integer, unable to parse string as an integer",
        "/options": "This argument is required",
        "/more": "Unknown argument. Known arguments: model, options, point",
    }


def test_a_pointer_leads_to_the_value_without_pydantics_own_steps() -> None:
    def union(x: list[int] | dict[str, int]) -> None: ...

    assert set(errors(union, b'{"x": {"a/b": "y"}}')) == {"/x", "/x/a~1b"}
    assert set(errors(models, b'{"model": {}, "point": {"x": 1, "y": []}, "options": {"deep": 1}}')) == {
        "/model/number"
    }


def test_the_message_of_a_users_validator_reaches_the_caller() -> None:
    assert errors(taking(Model), b'{"x": {"number": 1}}') == {"/x/number": "1 is not allowed"}


@pytest.mark.parametrize(("number", "exception"), [(2, "KeyError"), (3, "SystemExit")])
def test_a_validator_that_raises_another_exception_is_a_task_error(number: int, exception: str) -> None:
    found = fault(taking(Model), b'{"x": {"number": %d}}' % number)
    assert (found.reason, found.fields["exception"]) == (Reason.TASK_ERROR, exception)


class Item(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    full_name: Annotated[str, Field(alias="fullName", min_length=2)]


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: name.title().replace("_", ""), extra="forbid")
    first_part: int


def aliased(
    limit: Annotated[int, Field(alias="maxItems", gt=0)],
    step: Annotated[int, Field(validation_alias=AliasChoices("stepSize", "step_size"))] = 1,
    deep: Annotated[int, Field(validation_alias=AliasPath("options", "deep"))] = 0,
    plain: int = 0,
) -> Any:
    return [limit, step, deep, plain]


def test_arguments_are_known_by_their_aliases() -> None:
    assert result(aliased, b'{"maxItems": 5, "step_size": 2, "options": {"deep": 3}}') == [5, 2, 3, 0]
    assert errors(aliased, b'{"limit": 5, "stepSize": "x"}') == {
        "/maxItems": "This argument is required",
        "/stepSize": "Input should be a valid integer, unable to parse string as an integer",
        "/limit": "Unknown argument. Known arguments: maxItems, options, plain, stepSize",
    }
    assert errors(aliased, b'{"maxItems": 0}') == {"/maxItems": "Input should be greater than 0"}


def test_the_schema_has_the_aliases_with_their_defaults() -> None:
    properties = compiled(aliased).arguments_schema()["properties"]
    assert properties["maxItems"]["exclusiveMinimum"] == 0
    assert properties["stepSize"]["default"] == 1
    assert "limit" not in properties


def test_a_required_path_is_missing_as_a_whole() -> None:
    def take(x: Annotated[int, Field(validation_alias=AliasPath("a", "b"))]) -> int:
        return x

    assert result(take, b'{"a": {"b": 1}}') == 1
    assert errors(take, b"{}") == {"/a/b": "This argument is required"}


def test_the_names_in_models_are_those_that_the_caller_used() -> None:
    def take(item: Item, camel: Camel | None = None) -> Any:
        return item.full_name

    assert result(take, b'{"item": {"full_name": "ab"}}') == result(take, b'{"item": {"fullName": "ab"}}') == "ab"
    assert set(errors(take, b'{"item": {"full_name": "a"}}')) == {"/item/full_name"}
    assert set(errors(take, b'{"item": {}, "camel": {"first_part": 1}}')) == {
        "/item/fullName",
        "/camel/FirstPart",
        "/camel/first_part",
    }


def test_a_parameters_own_name_is_unknown_beside_kwargs_too() -> None:
    def take(limit: Annotated[int, Field(alias="maxItems")] = 3, **more: Any) -> Any:
        return [limit, more]

    assert result(take, b'{"maxItems": 5, "x": 1}') == [5, {"x": 1}]
    assert errors(take, b'{"limit": "x"}') == {"/limit": "Unknown argument. Known arguments: maxItems"}


def test_an_alias_is_used_for_the_body_and_in_the_query_string() -> None:
    def take(data: Annotated[bytes, Field(alias="file")], tags: Annotated[list[str], Field(alias="tag")] = []) -> Any:  # noqa: B006  # each job gets a copy
        return [data.decode(), tags]

    assert compiled(take).body_parameter == "file"
    assert result(take, b"x", query="tag=a") == ["x", ["a"]]
    assert set(errors(take, b"x", query="file=a&tags=b")) == {"/file"}
    assert set(errors(take, b"x", query="tags=b")) == {"/tags"}


def test_a_default_may_be_in_the_annotation() -> None:
    def take(x: Annotated[list[int], Field(default_factory=list)], y: Annotated[int, Field(default=3)]) -> Any:
        x.append(1)
        return [x, y]

    assert [result(take), result(take, b'{"y": 4}')] == [[[1], 3], [[1], 4]]
    assert "required" not in compiled(take).arguments_schema()


@pytest.mark.parametrize(
    "name",
    ["schema", "json", "copy", "self", "cls", "task", "model_config", "validate", "_private", "__dunder", "keys"],
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    function = eval(f"lambda {name}, plain=1: [{name}, plain]")
    function.__name__ = "named"
    assert result(function, b'{"%b": 5}' % name.encode()) == [5, 1]
    function.__annotations__ = {name: int}
    assert result(function, b'{"%b": "5"}' % name.encode()) == [5, 1]
    assert set(errors(function, b"{}")) == {f"/{name}"}


def test_bounds_are_enforced() -> None:
    assert result(bounded, b'{"limit": 10}') == "none 10"
    assert errors(bounded, b'{"limit": 11}') == {"/limit": "Input should be less than or equal to 10"}


def test_errors_do_not_repeat_the_input_at_length() -> None:
    found = fault(taking(Literal["a"]), orjson.dumps({"x": "b" * 1_000_000}))
    assert len(found.to_json()) < 1_000


def test_at_most_100_validation_errors_are_listed() -> None:
    found = fault(taking(list[int]), orjson.dumps({"x": ["a"] * 1_000}))
    assert len(found.fields["errors"]) == 101
    assert found.fields["errors"][-1]["detail"] == "900 more errors are not listed"


def test_more_than_10000_errors_are_counted_by_argument() -> None:
    def take(x: list[int], y: int, z: int) -> None: ...

    found = fault(take, orjson.dumps({"x": ["a"] * 20_000, "y": "b"}))
    assert found.fields["errors"] == [
        {"pointer": "/x", "detail": "20,000 errors in this argument"},
        {"pointer": "/y", "detail": "1 error in this argument"},
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


def test_the_schema_omits_what_it_cannot_express() -> None:
    def take(x: Annotated[int, Field(ge=1)], call: Callable[[], int] | None = None) -> Callable[[], int]:
        return call or int

    schema = compiled(take).arguments_schema()
    assert schema["properties"]["x"]["minimum"] == 1
    assert compiled(take).result_schema() is None


class Opaque: ...


def unknown_type(x: Opaque) -> None: ...


def unknown_extra_type(**x: Opaque) -> None: ...


def unresolved(first: int, x: Unknown) -> None: ...


def field_as_default(x: int = Field(3)) -> None: ...


def two_defaults(x: Annotated[int, Field(default=3)] = 5) -> None: ...


def one_alias(x: Annotated[int, Field(alias="z")], y: Annotated[int, Field(alias="z")]) -> None: ...


def any_number_of(*numbers: int) -> None: ...


def type_without_signature() -> None: ...


type_without_signature.__signature__ = "broken"  # type: ignore[attr-defined]  # as a faulty decorator leaves it


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (
            unknown_type,
            "cannot validate parameter 'x': pydantic does not support the type Opaque; use JSON types, a dataclass or "
            "a pydantic model, and convert it in the task",
        ),
        (
            unknown_extra_type,
            "cannot validate the extra arguments: pydantic does not support the type Opaque; use JSON types, a "
            "dataclass or a pydantic model, and convert it in the task",
        ),
        (
            unresolved,
            "cannot resolve 'Unknown', the annotation of parameter 'x': 'Unknown' is imported under TYPE_CHECKING "
            "only; import it outside of that block",
        ),
        (
            field_as_default,
            "the default of 'x' is a pydantic Field; move it into the annotation: Annotated[int, Field(…)]",
        ),
        (two_defaults, "'x' has two defaults; remove the one in its annotation"),
        (one_alias, "'x' and 'y' have the same name for callers; change the alias of one"),
        (any_number_of, "`*numbers` is not supported because arguments are passed by name; take a list"),
        (type_without_signature, "cannot read the signature; wrap the function in one defined with `def`"),
    ],
)
def test_an_unsupported_signature_is_rejected_on_load(function: Callable[..., Any], problem: str) -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        compiled(function)
    assert caught.value.problem == problem


def test_an_unresolvable_result_annotation_is_ignored() -> None:
    def take(x: int) -> Unknown:
        return x

    assert result(take, b'{"x": 1}') == 1
    assert compiled(take).result_schema() is None
