"""`CompiledTask`: decodes, validates, calls and encodes, with every decision made once when the task is loaded.

The four steps are separate so that the worker can time them; they share only their arguments.
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
    """The interface of `arguments.NameCheck` and `validation.TypeCheck`."""

    def validate(self, members: dict[str, Any]) -> dict[str, Any]: ...
    def schema(self) -> dict[str, Any]: ...


class CompiledTask:
    """A task's function with the steps between it and the bytes of a request.

    A worker runs `members = decode(body, query, content_type)`, `arguments = validate(members)`,
    `result = call(arguments)` and `encode(result, accept)`. `decode`, `validate` and `encode` raise only Fault; `call`
    raises whatever the user's function raises. `encode` is `results.encode`.

    If `copies_body` is true the function gets its own copy of the body, so the caller saves a copy by passing `bytes`.

    The constructor raises TaskDefinitionError if the function cannot be a task.
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
        """Returns the members of the request, not validated.

        The query string is read only if the body is one argument; with a JSON body it is ignored. A `memoryview` in the
        result is read-only and valid as long as `body` is.
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
        """Call the function and return its result. Raises what it raises."""
        if not self._positional:
            return self._function(**arguments)
        positional = [arguments.pop(parameter.name, parameter.default) for parameter in self._positional]
        return self._function(*positional, **arguments)

    def arguments_schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the arguments, with the defaults that JSON can express."""
        schema = self._check.schema()
        properties = schema.get("properties", {})
        for parameter in self.parameters.named:
            default = parameter.default
            if not parameter.is_required and (default is None or isinstance(default, (bool, int, float, str))):
                properties.get(parameter.name, {})["default"] = default
        return schema

    def result_schema(self) -> dict[str, Any] | None:
        """Returns the JSON Schema of the result, or None if it is unknown or not JSON."""
        from offload.tasks.validation import result_schema  # late, see `_make_check`

        return result_schema(self.parameters.result_hint)

    def _make_check(self) -> ArgumentCheck:
        if self.parameters.are_unannotated:
            return NameCheck(self.parameters)
        # Late: a worker whose tasks have no type hints does not need pydantic.
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
    """Returns the body as its parameter's type; an empty body gives the default, or None if the type allows it."""
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
