"""`GET /tasks` and `GET /tasks/{task}`: the documents of the tasks, encoded once, at their first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import orjson

from offload.tasks.catalogue import TaskInfo
from offload.web.answers.reply import JSON_HEADERS, OK, Reply
from offload.web.parts import LateParts
from offload.web.requests.exchange import Exchange
from offload.web.requests.judge import accepted_types, find_task
from offload.web.routes.links import JOBS, TASK, TASKS, Links


class TaskHandlers:
    def __init__(self, parts: LateParts, *, links: Links) -> None:
        self._parts = parts
        self._links = links

    async def list_all(self, exchange: Exchange) -> Reply:
        return Reply(OK, JSON_HEADERS, self._list)

    async def describe(self, exchange: Exchange) -> Reply:
        task = find_task(self._parts.current.catalogue, exchange.request.match_info["task"])
        return Reply(OK, JSON_HEADERS, self._encoded[task.limits.name])

    @cached_property
    def _encoded(self) -> Mapping[str, bytes]:
        return {task.limits.name: orjson.dumps(self._document(task)) for task in self._parts.current.catalogue.values()}

    @cached_property
    def _list(self) -> bytes:
        documents = [orjson.Fragment(document) for document in self._encoded.values()]
        return orjson.dumps({"tasks": documents, "links": {"self": self._links.path(TASKS)}})

    def _document(self, task: TaskInfo) -> dict[str, object]:
        limits = task.limits
        return {
            "name": limits.name,
            "description": task.description,
            "body": task.body,
            "accepts": accepted_types(task),
            "arguments": task.arguments_schema,
            "result": task.result_schema,
            "limits": {
                "timeout_s": limits.timeout_s,
                "memory_bytes": limits.memory_bytes,
                "retries": limits.retries,
                "max_running": limits.max_running or None,
                "max_queued": limits.max_queued or None,
                "urgency": limits.urgency,
            },
            "links": {
                "self": self._links.path(TASK, task=limits.name),
                "run": self._links.path(JOBS, task=limits.name),
            },
        }
