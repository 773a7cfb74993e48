"""Checks the names of the arguments, for tasks without type hints. It needs no pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offload.tasks.arguments.errors import invalid_arguments, missing, unknown
from offload.tasks.definition.parameters import Parameters


class NameCheck:
    """Checks only the names of the arguments, for tasks without type hints."""

    def __init__(self, parameters: Parameters) -> None:
        self.names: Mapping[str, str] = {parameter.name: parameter.name for parameter in parameters.named}
        self.has_decimals = False
        self._known = frozenset(self.names)
        self._required = {parameter.name: None for parameter in parameters.named if parameter.is_required}
        self._takes_more = parameters.extra_hint is not None

    def validate(self, members: dict[str, Any]) -> dict[str, Any]:
        """Returns `members` unchanged. Raises Fault `invalid-arguments`."""
        given = members.keys()
        if given >= self._required.keys() and (self._takes_more or given <= self._known):
            return members
        errors = [missing(name) for name in self._required if name not in members]
        if not self._takes_more:
            errors += [unknown(name, self._known) for name in members if name not in self._known]
        raise invalid_arguments(errors)

    def schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the arguments."""
        return {
            "type": "object",
            "properties": {name: {} for name in sorted(self._known)},
            "required": list(self._required),
            "additionalProperties": self._takes_more,
        }
