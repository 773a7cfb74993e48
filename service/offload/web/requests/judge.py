"""Judges the head of a request: returns the job that it asks for, or raises the problem to reject it with."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from offload.core.request import JobHead, JobTerms
from offload.tasks.catalogue import Catalogue, TaskInfo
from offload.web.answers.problems import printable
from offload.web.answers.reply import JSON
from offload.web.answers.request_problems import unknown_task, unsupported_encoding, unsupported_media_type
from offload.web.header_names import PRIORITY, REQUEST_ID, REQUEST_TIMEOUT, TRACEPARENT
from offload.web.parts import WebParts
from offload.web.requests import headers as head
from offload.web.requests.body import check_size

_NPY: Final = "application/x-npy"
_NDJSON: Final = "application/x-ndjson"


def judge(
    parts: WebParts,
    task_name: str,
    headers: CIMultiDictProxy[str],
    *,
    query: str,
    address: str | None,
    announced_bytes: int,
) -> JobTerms:
    """Returns the job that this request asks for.

    `address` is the caller's; `announced_bytes` is the Content-Length, 0 without one.
    Raises Problem.
    """
    task = find_task(parts.catalogue, task_name)
    content_type = headers.get(hdrs.CONTENT_TYPE, "")
    _judge_content(task, content_type, head.joined_values(headers, hdrs.CONTENT_ENCODING))
    check_size(announced_bytes, parts.max_body_bytes)
    has_budget = REQUEST_TIMEOUT in headers
    priority = head.joined_values(headers, PRIORITY)
    return JobTerms(
        limits=task.limits,
        client=head.client_name(headers, parts.client_header, address),
        budget_s=head.request_timeout_s(headers.getall(REQUEST_TIMEOUT)) if has_budget else None,
        urgency=head.urgency(priority, task.limits.urgency) if priority else task.limits.urgency,
        head=JobHead(
            query=head.encodable(query),
            content_type=head.encodable(content_type),
            accept=head.encodable(head.joined_values(headers, hdrs.ACCEPT)),
            request_id=head.request_id(headers.get(REQUEST_ID)),
            traceparent=head.traceparent(headers.get(TRACEPARENT)),
        ),
    )


def find_task(catalogue: Catalogue, name: str) -> TaskInfo:
    """Returns the task of that name. Raises Problem, with similar names, if it does not exist."""
    try:
        return catalogue[name]
    except KeyError:
        known = catalogue.close_matches(printable(name))
    raise unknown_task(name, known)


def _judge_content(task: TaskInfo, content_type: str, content_encoding: str) -> None:
    """Raise Problem for a body that cannot be this task's arguments.

    A raw body may have any type. So may JSON: `curl -d` declares a form.
    """
    if content_encoding and content_encoding.strip().lower() != "identity":
        raise unsupported_encoding(content_encoding)
    if not content_type or content_type == JSON or task.body == "bytes":
        return
    media_type = head.media_type(content_type)
    supported = [JSON, _NPY] if task.body == "npy-or-json" else [JSON]
    if media_type == _NDJSON or (media_type == _NPY and _NPY not in supported):
        raise unsupported_media_type(task.limits.name, media_type, supported)
