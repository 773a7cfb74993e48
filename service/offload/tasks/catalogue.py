"""What the service knows of the tasks without importing them.

Lives here: both ends of one JSON document.  A describing process writes it from the loaded tasks; the service reads
it.  The reading end knows neither pydantic nor the user's code.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from offload.core.job import TaskLimits
from offload.errors import TargetError
from offload.tasks.definition import MAX_NAME_LENGTH
from offload.tasks.faults import shortened

if TYPE_CHECKING:
    from offload.tasks.loading import LoadedTask, Registry

_MAX_MATCHES: Final = 3
_MAX_DESCRIPTION_LENGTH: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """One task, as the service sees it.

    `arguments_schema` and `result_schema` are JSON Schema, draft 2020-12; None for a result of which nothing is known.
    `body` is "json", "bytes" or "npy-or-json"; with the last two, `body_parameter` is what such a body goes to.
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
        """Reads what `describe` wrote; a task without a timeout of its own gets the default.

        Raises TargetError for anything else: the describing process ran code of the user's, which may have written
        there.
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
        """Up to three names of tasks that `name` may have been meant to be, nearest first."""
        return difflib.get_close_matches(name[:MAX_NAME_LENGTH], self._tasks, n=_MAX_MATCHES)


def describe(registry: Registry) -> bytes:
    """The document for `Catalogue.from_json`: a JSON array with an object for each task, in the order of indices."""
    return orjson.dumps([_described(task) for task in registry.tasks])


def _described(task: LoadedTask) -> dict[str, Any]:
    definition, compiled = task.definition, task.compiled
    description = inspect.getdoc(definition.function) or ""
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
    """The schema, None where it cannot be made or sent: it only documents, and must not keep a task from running."""
    try:
        schema = make_schema()
        orjson.dumps(schema)
    except Exception:  # pydantic asks the user's types for their schemas, and these may raise anything
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
