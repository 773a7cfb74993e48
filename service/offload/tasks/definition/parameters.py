"""Reads a task's parameters from its signature: names, resolved type hints, and which parameter takes the request body.

This module validates no arguments and needs no pydantic.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Union

from offload.errors import TaskDefinitionError
from offload.tasks.arrays import is_array_hint
from offload.tasks.definition.decorators import TaskDefinition
from offload.tasks.definition.wrapping import plain_function

# Collections that are one value.
_WHOLE: Final = (str, bytes, bytearray, memoryview, Mapping)
_UNION_ORIGINS: Final = (Union, types.UnionType)
_TYPE_ALIAS: Final[Any] = getattr(typing, "TypeAliasType", ())  # from Python 3.12 on


class BodyKind(StrEnum):
    """What the request body of a task holds; the values are in the catalogue."""

    JSON = "json"
    BYTES = "bytes"
    NPY_OR_JSON = "npy-or-json"
    FORM = "form"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """`hint` is Any without an annotation; `default` is None for a required parameter."""

    name: str
    hint: Any
    is_required: bool
    is_positional_only: bool = False
    default: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """The parameters of a function.

    `extra_hint` is the annotation of its `**kwargs`, None without `**kwargs`. `body_parameter` takes the raw body,
    always (BYTES) or if it is an .npy file (NPY_OR_JSON). With several such parameters, only a form has all arguments.
    """

    named: tuple[Parameter, ...]
    extra_hint: Any | None
    result_hint: Any
    body_kind: BodyKind
    body_parameter: str | None

    @property
    def are_unannotated(self) -> bool:
        """Whether only names need checking."""
        hints = [parameter.hint for parameter in self.named]
        return all(hint is Any or hint is object for hint in (*hints, self.extra_hint or Any))


def read_parameters(definition: TaskDefinition) -> Parameters:
    """Read the function's signature. Raises TaskDefinitionError for `*args` and for unresolvable annotations."""
    task, function = definition.name, definition.function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise TaskDefinitionError(
            task, "cannot read the signature; wrap the function in one defined with `def`"
        ) from None
    named: list[Parameter] = []
    extra_hint = None
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise TaskDefinitionError(task, _unsupported_star(parameter.name, signature))
        hint = _resolved(task, function, f"parameter {parameter.name!r}", parameter.annotation)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra_hint = hint
            continue
        is_required = parameter.default is inspect.Parameter.empty
        named.append(
            Parameter(
                name=parameter.name,
                hint=hint,
                is_required=is_required,
                is_positional_only=parameter.kind is inspect.Parameter.POSITIONAL_ONLY,
                default=None if is_required else parameter.default,
            )
        )
    body_kind, body_parameter = _body_of(named)
    return Parameters(
        named=tuple(named),
        extra_hint=extra_hint,
        result_hint=_result_hint(task, function, signature.return_annotation),
        body_kind=body_kind,
        body_parameter=body_parameter,
    )


def unaliased(hint: Any) -> Any:
    """Resolve a `type Name = …` alias (PEP 695), which newer versions of NumPy use for `NDArray`."""
    alias = typing.get_origin(hint) or hint
    if not isinstance(alias, _TYPE_ALIAS):
        return hint
    return unaliased(alias.__value__[typing.get_args(hint)] if alias is not hint else alias.__value__)


def alternatives(hint: Any) -> Iterator[Any]:
    """Yields the types that `hint` allows, without aliases, `Annotated` and unions."""
    hint = unaliased(hint)
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from alternatives(typing.get_args(hint)[0])
    elif origin in _UNION_ORIGINS:
        for part in typing.get_args(hint):
            yield from alternatives(part)
    else:
        yield hint


def takes_several(hint: Any) -> bool:
    """Returns whether a query string or form may repeat the parameter: lists, sets, tuples and similar types."""
    origins = [typing.get_origin(part) or part for part in alternatives(hint)]
    return any(
        isinstance(origin, type) and issubclass(origin, Collection) and not issubclass(origin, _WHOLE)
        for origin in origins
        if not is_array_hint(origin)
    )


def _body_of(parameters: list[Parameter]) -> tuple[BodyKind, str | None]:
    raw = [parameter.name for parameter in parameters if _is_raw(parameter.hint)]
    arrays = [parameter.name for parameter in parameters if any(map(is_array_hint, alternatives(parameter.hint)))]
    if len(raw) > 1 or (raw and arrays):
        return BodyKind.FORM, None
    if raw:
        return BodyKind.BYTES, raw[0]
    if len(arrays) == 1:
        return BodyKind.NPY_OR_JSON, arrays[0]
    return BodyKind.JSON, None


def _is_raw(hint: Any) -> bool:
    parts = [part for part in alternatives(hint) if part is not types.NoneType]
    return bool(parts) and all(part is bytes or part is memoryview for part in parts)


def _unsupported_star(name: str, signature: inspect.Signature) -> str:
    problem = f"`*{name}` is not supported because arguments are passed by name; take a list"
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
        problem += ", or put functools.wraps into the decorator if a decorator made this function"
    return problem


def _resolved(task: str, function: Callable[..., Any], what: str, annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    plain = plain_function(function)
    holder = types.SimpleNamespace(
        __annotations__={"it": annotation}, __type_params__=getattr(plain, "__type_params__", ())
    )
    try:
        return typing.get_type_hints(holder, globalns=getattr(plain, "__globals__", {}), include_extras=True)["it"]
    except Exception as error:  # evaluating an annotation runs the user's code
        from offload.tasks.definition.hints import unresolved  # late: needed for mistakes only

        raise TaskDefinitionError(
            task, unresolved(annotation, what, error, getattr(plain, "__module__", ""))
        ) from error


def _result_hint(task: str, function: Callable[..., Any], annotation: Any) -> Any:
    """Returns the annotation of the result; Any if it cannot be resolved, because it only documents."""
    try:
        return _resolved(task, function, "the result", annotation)
    except TaskDefinitionError:
        return Any
