"""A task as the worker calls it: decode, validate, call, encode.

Lives here: `CompiledTask`, made once for each task when it is loaded, so that a call finds everything decided.  The
four steps are separate for the worker to mark and time; they share nothing but what they are handed.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from offload.tasks.arguments import (
    ArgumentError,
    Body,
    NameCheck,
    invalid_arguments,
    parse_object,
    parse_query,
    pointer_to,
)
from offload.tasks.arrays import NPY_MEDIA_TYPE, read_npy
from offload.tasks.definition import TaskDefinition
from offload.tasks.parameters import BodyKind, Parameter, alternatives, read_parameters, takes_several
from offload.tasks.results import encode

_ABSENT: Final = object()


class ArgumentCheck(Protocol):
    """What `arguments.NameCheck` and `validation.TypeCheck` both are."""

    def validate(self, members: dict[str, Any]) -> dict[str, Any]: ...
    def schema(self) -> dict[str, Any]: ...


class CompiledTask:
    """A task's function with everything that stands between it and the bytes of a request.

    A worker does, in this order: `members = decode(body, query, content_type)`, `arguments = validate(members)`,
    `result = call(arguments)`, `encode(result, accept)`.  `decode`, `validate` and `encode` raise Fault and nothing
    else; `call` raises whatever the user's function does.  `encode` is that of `results`.

    `copies_body`: the function gets the body as an object of its own, so `decode` is best handed one.

    Making one raises TaskDefinitionError if the function cannot be a task.
    """

    def __init__(self, definition: TaskDefinition) -> None:
        parameters = read_parameters(definition)
        self.definition = definition
        self.parameters = parameters
        self.body_kind = parameters.body_kind
        self.body_parameter = parameters.body_parameter
        self._function = definition.function
        self._body = next((one for one in parameters.named if one.name == parameters.body_parameter), None)
        self.copies_body = self.body_kind is BodyKind.BYTES and memoryview not in _kinds(self._body)
        self._positional = [parameter for parameter in parameters.named if parameter.is_positional_only]
        self._several = frozenset(parameter.name for parameter in parameters.named if takes_several(parameter.hint))
        self._check = self._make_check()
        self.validate = self._check.validate

    encode = staticmethod(encode)

    def decode(self, body: Body, query: str = "", content_type: str = "") -> dict[str, Any]:
        """The members that the request has, unvalidated.  The query string counts only where the body is one argument
        by itself; beside a JSON body it is ignored.

        What is handed out for `memoryview` is read-only, and valid as long as `body` is.
        """
        parameter = self._body
        if parameter is None:
            return parse_object(body)
        if self.body_kind is BodyKind.BYTES:
            return self._with_query(query, parameter.name, _raw(parameter, body))
        if not _is_npy(content_type):
            return parse_object(body)
        try:
            array = read_npy(body)
        except ValueError as error:
            raise invalid_arguments([ArgumentError(pointer_to(parameter.name), str(error))]) from None
        return self._with_query(query, parameter.name, array)

    def call(self, arguments: dict[str, Any]) -> object:
        """What the function returns.  Raises what it raises."""
        if not self._positional:
            return self._function(**arguments)
        positional = [arguments.pop(parameter.name, parameter.default) for parameter in self._positional]
        return self._function(*positional, **arguments)

    def arguments_schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments, with defaults where JSON can say them."""
        schema = self._check.schema()
        properties = schema.get("properties", {})
        for parameter in self.parameters.named:
            default = parameter.default
            if not parameter.is_required and (default is None or isinstance(default, (bool, int, float, str))):
                properties.get(parameter.name, {})["default"] = default
        return schema

    def result_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the result, None if the function does not say, or it is no JSON."""
        from offload.tasks.validation import result_schema  # as in `_make_check`

        return result_schema(self.parameters.result_hint)

    def _make_check(self) -> ArgumentCheck:
        if self.parameters.are_unannotated:
            return NameCheck(self.parameters)
        # Here and not above: a worker whose tasks have no hints does without pydantic.
        from offload.tasks.validation import TypeCheck

        return TypeCheck(self.definition.name, self.parameters)

    def _with_query(self, query: str, name: str, value: object) -> dict[str, Any]:
        members = parse_query(query, self._several) if query else {}
        if name in members:
            problem = ArgumentError(
                pointer_to(name), "This argument is the request body. Remove it from the query string"
            )
            raise invalid_arguments([problem])
        if value is not _ABSENT:
            members[name] = value
        return members


def _raw(parameter: Parameter, body: Body) -> object:
    """The body as its parameter wants it; an empty one leaves a default, or None, where the function has that."""
    kinds = _kinds(parameter)
    if not len(body):
        if not parameter.is_required:
            return _ABSENT
        if type(None) in kinds:
            return None
    return memoryview(body).toreadonly() if memoryview in kinds else bytes(body)


def _kinds(parameter: Parameter | None) -> list[Any]:
    return [] if parameter is None else list(alternatives(parameter.hint))


def _is_npy(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == NPY_MEDIA_TYPE
