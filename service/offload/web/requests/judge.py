"""Judges the head of a request: returns the job that it asks for, or raises the problem to reject it with."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from offload.core.request import JobHead, JobTerms
from offload.tasks.arguments.content_type import FORM
from offload.tasks.catalogue import Catalogue, TaskInfo
from offload.web.answers.problems import printable
from offload.web.answers.reply import BYTES, JSON
from offload.web.answers.request_problems import (
    partial_body,
    unknown_task,
    unsupported_encoding,
    unsupported_media_type,
    unsupported_transfer,
)
from offload.web.header_names import PRIORITY, REQUEST_ID, REQUEST_TIMEOUT, TRACEPARENT
from offload.web.parts import WebParts
from offload.web.requests import headers as head
from offload.web.requests.body import check_size

_NPY: Final = "application/x-npy"
_NDJSON: Final = "application/x-ndjson"
# Bodies of these types are an envelope around others; only that of forms is opened.
_ENVELOPES: Final = "multipart/"

# The media types of a task's body, by its kind.
_ACCEPTED: Final = {
    "json": (JSON, FORM),
    "npy-or-json": (JSON, _NPY, FORM),
    "bytes": (BYTES, FORM),
    "form": (FORM,),
}


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
    _judge_framing(headers)
    coding = _judge_coding(parts, head.joined_values(headers, hdrs.CONTENT_ENCODING))
    _judge_content(task, content_type)
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
            content_encoding=coding,
        ),
    )


def find_task(catalogue: Catalogue, name: str) -> TaskInfo:
    """Returns the task of that name. Raises Problem, with similar names, if it does not exist."""
    try:
        return catalogue[name]
    except KeyError:
        known = catalogue.close_matches(printable(name))
    raise unknown_task(name, known)


def accepted_types(task: TaskInfo) -> tuple[str, ...]:
    """Returns the media types to send to this task. One that takes bytes accepts any type but envelopes."""
    return _ACCEPTED[task.body]


def _judge_framing(headers: CIMultiDictProxy[str]) -> None:
    """Raise Problem for a part of a body, and for a body that the connection compresses: nothing would inflate it."""
    transfer = head.joined_values(headers, hdrs.TRANSFER_ENCODING)
    if transfer and transfer.strip().lower() != "chunked":
        raise unsupported_transfer(transfer)
    if hdrs.CONTENT_RANGE in headers:
        raise partial_body()


def _judge_coding(parts: WebParts, content_encoding: str) -> str:
    """Returns the coding of a compressed body, else "". Raises Problem for an unsupported coding."""
    if not content_encoding:
        return ""
    codings = head.content_codings(content_encoding)
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in parts.content_codings:
        raise unsupported_encoding(content_encoding, parts.content_codings)
    return codings[0]


def _judge_content(task: TaskInfo, content_type: str) -> None:
    """Raise Problem for a body that cannot be this task's arguments.

    A raw body may have any other type. So may JSON: `curl -d` declares a form.
    """
    accepted = _ACCEPTED[task.body]
    if content_type == JSON or not content_type:
        if JSON not in accepted and BYTES not in accepted:
            raise unsupported_media_type(task.limits.name, content_type or "a body of unknown type", accepted)
        return
    media_type = head.media_type(content_type)
    if media_type in accepted:
        return
    may_be_other = task.body != "form" and not media_type.startswith(_ENVELOPES)
    if not may_be_other or (task.body != "bytes" and media_type in (_NDJSON, _NPY)):
        raise unsupported_media_type(task.limits.name, media_type, accepted)
