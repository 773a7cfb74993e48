"""Validates arguments against type hints with pydantic, and turns its errors into an `invalid-arguments` fault."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, NotRequired, Union

from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema, with_config
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails
from typing_extensions import TypedDict  # pydantic requires it: the standard library's lacks `extra_items`

from offload.errors import TaskDefinitionError
from offload.tasks.arguments.errors import MAX_ERRORS, ArgumentError, invalid_arguments, missing, unknown
from offload.tasks.arrays import element_type, is_array_hint, to_array
from offload.tasks.definition.parameters import Parameter, Parameters, alternatives, unaliased
from offload.tasks.faults import pointer_to, task_error

# An entry in pydantic's list of errors takes about 600 bytes: a body full of errors must not fill the memory.
_MAX_ERRORS_READ: Final = 10_000


class TypeCheck:
    """Validates arguments against the type hints of a task's parameters; the function supplies its own defaults.

    The constructor raises TaskDefinitionError for a hint that pydantic cannot validate.
    """

    def __init__(self, task: str, parameters: Parameters) -> None:
        self._adapter = _adapter_for(task, parameters)
        fields = _core_fields(self._adapter.core_schema)
        _check_fields(task, parameters, fields)
        self.names: Mapping[str, str] = {name: _caller_name(name, field) for name, field in fields.items()}
        self.has_decimals = _has_decimals(self._adapter.core_schema)
        self._known = frozenset(self.names.values())
        self._required = {self.names[name] for name, field in fields.items() if field.get("required", True)}
        # Parameters whose own names are no arguments. Where any name is one, they would bypass the type check.
        hidden = () if parameters.extra_hint is None else self.names.keys() - self._known
        self._hidden = frozenset(hidden)
        self._validate = self._adapter.validator.validate_python

    def validate(self, members: dict[str, Any]) -> dict[str, Any]:
        """Returns the converted arguments.

        Raises Fault `invalid-arguments` with all errors, or `task-error` if one of the user's validators raises another
        exception than pydantic expects.
        """
        if self._hidden and not self._hidden.isdisjoint(members):
            raise invalid_arguments([unknown(name, self._known) for name in self._hidden.intersection(members)])
        try:
            validated: dict[str, Any] = self._validate(members)
        except ValidationError as error:
            if error.error_count() > _MAX_ERRORS_READ:
                errors = self._counts_by_argument(members)
                raise invalid_arguments(errors, left_out=error.error_count() - len(errors)) from None
            raise invalid_arguments(list(self._argument_errors(error, members))) from None
        except BaseException as error:  # the user's validators may raise anything
            raise task_error(error) from error
        return validated

    def schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the arguments; a part without one has an empty schema."""
        schema = self._adapter.json_schema(schema_generator=LenientJsonSchema)
        schema.pop("title", None)
        return schema

    def _argument_errors(self, error: ValidationError, members: dict[str, Any]) -> Iterator[ArgumentError]:
        for details in error.errors(include_url=False, include_context=False):
            name = str(details["loc"][0])
            if details["type"] == "missing" and name not in members:
                yield missing(*details["loc"])
            elif details["type"] == "extra_forbidden" and len(details["loc"]) == 1:
                yield unknown(name, self._known)
            else:
                yield _argument_error(details, members)

    def _counts_by_argument(self, members: dict[str, Any]) -> list[ArgumentError]:
        """Returns one error for each wrong argument, with the number of errors in it."""
        errors = []
        for name, value in members.items():
            others_missing = len(self._required - {name})
            count = self._error_count({name: value}) - others_missing
            if count:
                what = "1 error" if count == 1 else f"{count:,} errors"
                errors.append(ArgumentError(pointer_to(name), f"{what} in this argument"))
        return errors[:MAX_ERRORS]

    def _error_count(self, members: dict[str, Any]) -> int:
        try:
            self._validate(members)
        except ValidationError as error:
            return error.error_count()
        return 0


def _core_fields(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """Returns what pydantic read of each parameter: whether it is required, and its alias."""
    while "fields" not in schema:
        schema = schema["schema"]  # below shared definitions
    fields: Mapping[str, Mapping[str, Any]] = schema["fields"]
    return fields


def _has_decimals(schema: Any) -> bool:
    """Returns whether pydantic's schema, which is a tree, has a decimal number in it."""
    rest = [schema]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            if item.get("type") == "decimal":
                return True
            rest.extend(part for name, part in item.items() if name not in ("default", "metadata"))
        elif isinstance(item, (list, tuple)):
            rest.extend(item)
    return False


def _check_fields(task: str, parameters: Parameters, fields: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise TaskDefinitionError for two parameters of one alias, and for a parameter with two defaults."""
    names: dict[str, str] = {}
    for parameter in parameters.named:
        field = fields[parameter.name]
        other = names.setdefault(_caller_name(parameter.name, field), parameter.name)
        if other != parameter.name:
            raise TaskDefinitionError(
                task, f"{other!r} and {parameter.name!r} have the same name for callers; change the alias of one"
            )
        if not parameter.is_required and field["schema"]["type"] == "default":
            raise TaskDefinitionError(task, f"{parameter.name!r} has two defaults; remove the one in its annotation")


def _caller_name(name: str, field: Mapping[str, Any]) -> str:
    """Returns the name that callers use: the parameter's, or its alias, the first if there are several."""
    alias = field.get("validation_alias", name)
    while not isinstance(alias, str):  # a path, or several paths
        alias = alias[0]
    return alias


class LenientJsonSchema(GenerateJsonSchema):
    """Makes JSON Schema with an empty schema, which allows everything, where pydantic has none."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def result_schema(hint: Any) -> dict[str, Any] | None:
    """Returns the JSON Schema of a result with this hint, or None if it is unknown."""
    if hint is Any or hint is object:
        return None
    try:
        return TypeAdapter(hint).json_schema(mode="serialization", schema_generator=LenientJsonSchema) or None
    except Exception:  # the hint only documents; pydantic cannot read some, such as an array or a Response
        return None


def _adapter_for(task: str, parameters: Parameters) -> TypeAdapter[Any]:
    fields = {parameter.name: _field(task, parameter) for parameter in parameters.named}
    extra: dict[str, Any] = {}
    if parameters.extra_hint not in (None, Any):
        extra = {"extra_items": parameters.extra_hint}
    config = ConfigDict(extra="forbid" if parameters.extra_hint is None else "allow")
    try:
        return _complete(with_config(config)(TypedDict(task, fields, **extra)))  # type: ignore[operator]  # made at run time
    except Exception as error:
        from offload.tasks.definition.hints import unsupported  # late: needed for mistakes only

        hints = {f"parameter {name!r}": _without_not_required(hint) for name, hint in fields.items()}
        hints |= dict.fromkeys(["the extra arguments"] if extra else [], parameters.extra_hint)
        raise TaskDefinitionError(task, unsupported(hints, error, _complete)) from error


def _field(task: str, parameter: Parameter) -> Any:
    if isinstance(parameter.default, FieldInfo):
        raise TaskDefinitionError(
            task,
            f"the default of {parameter.name!r} is a pydantic Field; "
            "move it into the annotation: Annotated[int, Field(…)]",
        )
    hint = _checkable(parameter.hint)
    return hint if parameter.is_required else NotRequired[hint]


def _checkable(hint: Any) -> Any:
    """Returns `hint` with validators for the types that pydantic does not know."""
    if not any(part is memoryview or is_array_hint(part) for part in alternatives(hint)):
        return hint
    hint = unaliased(hint)
    if is_array_hint(hint):
        wanted = element_type(hint)
        return Annotated[Any, PlainValidator(lambda value: to_array(value, wanted)), WithJsonSchema({"type": "array"})]
    if hint is memoryview:
        return Annotated[Any, WithJsonSchema({"type": "string", "format": "binary"})]
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return Annotated[(_checkable(parts[0]), *hint.__metadata__)]
    return Union[tuple(_checkable(part) for part in parts)]  # noqa: UP007  # made at run time


def _complete(hint: Any) -> TypeAdapter[Any]:
    adapter: TypeAdapter[Any] = TypeAdapter(hint)
    if not adapter.pydantic_complete:
        adapter.rebuild(raise_errors=True)
    return adapter


def _without_not_required(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) is NotRequired else hint


def _argument_error(details: ErrorDetails, members: dict[str, Any]) -> ArgumentError:
    message = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return ArgumentError(pointer_to(*_path(details, members)), message)


def _path(details: ErrorDetails, members: dict[str, Any]) -> Iterator[str | int]:
    """Yields the path to the wrong value, without pydantic's own steps, such as the tried member of a union."""
    value: Any = members
    last = len(details["loc"]) - 1
    for index, segment in enumerate(details["loc"]):
        is_member = isinstance(value, dict) and segment in value
        if is_member or (isinstance(value, list) and isinstance(segment, int) and segment < len(value)):
            value = value[segment]
        elif index != last or details["type"] != "missing":
            continue
        yield segment
