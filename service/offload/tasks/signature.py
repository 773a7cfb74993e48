"""`CompiledTask`: decodes, validates, calls and encodes, with every decision made once when the task is loaded.

The four steps are separate so that the worker can time them; they share only their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

from offload.core.outcome import Reason
from offload.tasks.arguments.content_type import FORM, UNKNOWN, URL_ENCODED, ContentType, read_content_type
from offload.tasks.arguments.errors import ArgumentError, ErrorsByName, invalid_arguments, with_other_errors
from offload.tasks.arguments.json_text import Body, read_json, read_json_with_decimals
from offload.tasks.arguments.name_check import NameCheck
from offload.tasks.arguments.reading import is_url_encoded, parse_object, parse_query, unread, url_encoded
from offload.tasks.arrays import NPY_MEDIA_TYPE, read_npy
from offload.tasks.definition.decorators import TaskDefinition
from offload.tasks.definition.defaults import MutableDefaults
from offload.tasks.definition.parameters import BodyKind, Parameter, alternatives, read_parameters, takes_several
from offload.tasks.faults import Fault, pointer_to, shortened
from offload.tasks.results.encoding import encode

if TYPE_CHECKING:
    from offload.tasks.arguments.form_arguments import FormArguments

_ABSENT: Final = object()


class ArgumentCheck(Protocol):
    """The interface of `NameCheck` and `TypeCheck`.

    `names` are the names that callers use, by those of the parameters. `has_decimals`: a type hint has `Decimal` in it.
    """

    names: Mapping[str, str]
    has_decimals: bool

    def validate(self, members: dict[str, Any]) -> dict[str, Any]: ...
    def schema(self) -> dict[str, Any]: ...


class CompiledTask:
    """A task's function with the steps between it and the bytes of a request.

    A worker runs `members = decode(body, query, content_type)`, `arguments = validate(members)`,
    `result = call(arguments)` and `encode(result, accept)`. `decode`, `validate` and `encode` raise only Fault; `call`
    raises whatever the user's function raises. `encode` is that of `results.encoding`.

    The constructor raises TaskDefinitionError if the function cannot be a task.
    """

    def __init__(self, definition: TaskDefinition) -> None:
        parameters = read_parameters(definition)
        self.definition = definition
        self.parameters = parameters
        self.body_kind = parameters.body_kind
        self._function = definition.function
        self._body = next((one for one in parameters.named if one.name == parameters.body_parameter), None)
        self._copies_body = self.body_kind is BodyKind.BYTES and memoryview not in _kinds(self._body)
        self._positional = [parameter for parameter in parameters.named if parameter.is_positional_only]
        self._defaults = MutableDefaults(parameters.named)
        self._has_mutable_defaults = bool(self._defaults)
        self._needs_form = self.body_kind is BodyKind.FORM
        self._check = self._make_check()
        self._read_json = read_json_with_decimals if self._check.has_decimals else read_json
        self.validate = self._check.validate
        names = self._check.names
        self.body_parameter = None if self._body is None else names[self._body.name]
        self._several = frozenset(names[one.name] for one in parameters.named if takes_several(one.hint))
        self._queried = None if parameters.extra_hint is not None else frozenset(names.values())

    encode = staticmethod(encode)

    def decode(self, body: Body, query: str = "", content_type: str = "") -> dict[str, Any]:
        """Returns the members of the request, not validated.

        The query string is read only if the body is one argument. Beside a form or JSON body, an argument in it is an
        error. A `memoryview` in the result is read-only and valid as long as `body` is.
        """
        content = read_content_type(content_type) if content_type else UNKNOWN
        if content.media_type == FORM:
            return self._form(body, query, content)
        if self._needs_form:
            raise _needs_form(content)
        if self._body is None or (self.body_kind is not BodyKind.BYTES and content.media_type != NPY_MEDIA_TYPE):
            members = parse_object(body, content, self._read_json)
            if query and (errors := unread(query, self._queried, "Send it in the JSON body")):
                raise self._all_errors(errors, members)
            return members
        if self.body_kind is BodyKind.BYTES:
            if content.media_type == URL_ENCODED and is_url_encoded(body, self._check.names.values()):
                raise url_encoded(Reason.BAD_REQUEST, "If this is the data itself, declare application/octet-stream")
            return self._with_query(query, _raw(self._body, body))
        try:
            array = read_npy(body)
        except ValueError as error:
            raise invalid_arguments([ArgumentError(pointer_to(self.body_parameter or ""), str(error))]) from None
        return self._with_query(query, array)

    def copies_body(self, content_type: str) -> bool:
        """Returns whether `decode` makes a copy of the whole body, which `bytes` saves."""
        return self._copies_body and read_content_type(content_type).media_type != FORM

    def call(self, arguments: dict[str, Any]) -> object:
        """Call the function and return its result. Raises what it raises."""
        if self._has_mutable_defaults:
            self._defaults.add_to(arguments)
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
                properties.get(self._check.names[parameter.name], {})["default"] = default
        return schema

    def result_schema(self) -> dict[str, Any] | None:
        """Returns the JSON Schema of the result, or None if it is unknown or not JSON."""
        from offload.tasks.arguments.validation import result_schema  # late, see `_make_check`

        return result_schema(self.parameters.result_hint)

    def _make_check(self) -> ArgumentCheck:
        if self.parameters.are_unannotated:
            return NameCheck(self.parameters)
        # Late: a worker whose tasks have no type hints does not need pydantic.
        from offload.tasks.arguments.validation import TypeCheck

        return TypeCheck(self.definition.name, self.parameters)

    @cached_property
    def _form_arguments(self) -> FormArguments:
        from offload.tasks.arguments.form_arguments import FormArguments  # late: most workers get no form

        try:
            schema = self._check.schema()
        except Exception:  # the user's types may raise anything; then fields are read by the type hints alone
            schema = {}
        return FormArguments(self.parameters, self._check.names, schema, self._read_json)

    def _form(self, body: Body, query: str, content: ContentType) -> dict[str, Any]:
        from offload.tasks.arguments.form_parts import read_form

        members, errors = self._form_arguments.read(read_form(body, content))
        if query:
            errors |= unread(query, self._queried, "Send it as a field of the form")
        if errors:
            raise self._all_errors(errors, members)
        return members

    def _all_errors(self, errors: ErrorsByName, members: dict[str, Any]) -> Fault:
        """Returns the fault with `errors`, and with those of the arguments that could be read."""
        try:
            self.validate({name: value for name, value in members.items() if name not in errors})
        except Fault as other:
            return invalid_arguments(with_other_errors(errors, other))
        return invalid_arguments([error for of_one in errors.values() for error in of_one])

    def _with_query(self, query: str, value: object) -> dict[str, Any]:
        name = self.body_parameter
        assert name is not None
        members = parse_query(query, self._several) if query else {}
        if name in members:
            problem = ArgumentError(
                pointer_to(name), "This argument is the request body. Remove it from the query string"
            )
            raise invalid_arguments([problem])
        if value is not _ABSENT:
            members[name] = value
        return members


def _needs_form(content: ContentType) -> Fault:
    given = content.media_type or "a body of unknown type"
    return Fault(
        Reason.UNSUPPORTED_MEDIA_TYPE,
        detail=f"Only a form can have all arguments of this task, not {shortened(given, 100)}. Send {FORM}.",
        supported=[FORM],
    )


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
