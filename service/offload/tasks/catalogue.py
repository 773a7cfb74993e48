"""The catalogue of tasks, which the service reads from a JSON document instead of importing the tasks.

A describing process writes the document from the loaded tasks. The reading side needs neither pydantic nor the user's
code.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from offload.core.request import TaskLimits
from offload.errors import TargetError
from offload.tasks.definition.decorators import MAX_NAME_LENGTH
from offload.tasks.definition.wrapping import without_partials
from offload.tasks.faults import shortened

if TYPE_CHECKING:
    from offload.tasks.targets.loading import LoadedTask, Registry

_MAX_MATCHES: Final = 3
_MAX_DESCRIPTION_LENGTH: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """One task, as the service sees it.

    `arguments_schema` and `result_schema` are JSON Schema, draft 2020-12; `result_schema` is None if unknown. `body` is
    "json", "bytes", "npy-or-json" or "form"; for bytes and npy, `body_parameter` names the parameter that takes it.
    """

    limits: TaskLimits
    description: str
    arguments_schema: Mapping[str, Any]
    result_schema: Mapping[str, Any] | None
    body: str
    body_parameter: str | None = None


class Catalogue(Mapping[str, TaskInfo]):
    """The tasks by name, in the order of their indices."""

    def __init__(self, tasks: Mapping[str, TaskInfo]) -> None:
        self._tasks = dict(tasks)

    @classmethod
    def from_json(cls, data: bytes | bytearray | memoryview, default_timeout_s: float) -> Self:
        """Read the document of `describe`; a task without its own timeout gets the default.

        Raises TargetError if it is invalid: the user's code ran in the describing process and may have written to the
        same descriptor.
        """
        try:
            return cls({values["name"]: _task_from(values, default_timeout_s) for values in orjson.loads(data)})
        except (ValueError, TypeError, KeyError) as error:
            problem = f"cannot read the list of tasks ({type(error).__name__}: {error})"
            raise TargetError("", f"{problem}; a task file must write only to descriptors that it opened") from error

    def __getitem__(self, name: str) -> TaskInfo:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def close_matches(self, name: str) -> list[str]:
        """Returns up to three task names similar to `name`, most similar first."""
        return difflib.get_close_matches(name[:MAX_NAME_LENGTH], self._tasks, n=_MAX_MATCHES)


def describe(registry: Registry) -> bytes:
    """Returns the document for `Catalogue.from_json`: a JSON array of one object per task, ordered by index."""
    return orjson.dumps([_described(task) for task in registry.tasks])


def _described(task: LoadedTask) -> dict[str, Any]:
    definition, compiled = task.definition, task.compiled
    description = inspect.getdoc(without_partials(definition.function)) or ""
    return {
        "name": definition.name,
        "index": task.index,
        "description": shortened(description, _MAX_DESCRIPTION_LENGTH),
        "timeout_s": definition.timeout_s,
        "memory_bytes": definition.memory_bytes,
        "retries": definition.retries,
        "max_running": definition.max_running,
        "max_queued": definition.max_queued,
        "urgency": definition.urgency,
        "body": compiled.body_kind,
        "body_parameter": compiled.body_parameter,
        "arguments": _encodable(compiled.arguments_schema) or {},
        "result": _encodable(compiled.result_schema),
    }


def _encodable(make_schema: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """Returns the schema, or None if it cannot be made or encoded; it only documents, so the task loads anyway."""
    try:
        schema = make_schema()
        orjson.dumps(schema)
    except Exception:  # the user's types make their own schemas and may raise anything
        return None
    return schema


def _task_from(values: Mapping[str, Any], default_timeout_s: float) -> TaskInfo:
    timeout_s = values["timeout_s"]
    limits = TaskLimits(
        name=values["name"],
        index=values["index"],
        timeout_s=default_timeout_s if timeout_s is None else timeout_s,
        memory_bytes=values["memory_bytes"],
        retries=values["retries"],
        max_running=values["max_running"],
        max_queued=values["max_queued"],
        urgency=values["urgency"],
    )
    return TaskInfo(
        limits=limits,
        description=values["description"],
        arguments_schema=values["arguments"],
        result_schema=values["result"],
        body=values["body"],
        body_parameter=values["body_parameter"],
    )
