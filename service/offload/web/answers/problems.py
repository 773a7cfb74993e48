"""The one table of status codes, and the problem documents made from it (RFC 9457).

`request_problems` and `outcomes` have the details.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson

from offload.errors import OffloadError
from offload.web.answers.reply import Headers, Reply
from offload.web.header_names import CONTENT_TYPE

_CONTENT_TYPE: Final = (CONTENT_TYPE, "application/problem+json")

# Limit on echoing what a caller sent.
_MAX_ECHO_CHARS: Final = 100


class ProblemKind(NamedTuple):
    status: int
    title: str


PROBLEMS: Final[Mapping[str, ProblemKind]] = {
    "bad-request": ProblemKind(400, "Malformed request"),
    "invalid-json": ProblemKind(400, "The body is not a JSON object"),
    "invalid-header": ProblemKind(400, "Invalid header"),
    "unknown-task": ProblemKind(404, "Unknown task"),
    "unknown-job": ProblemKind(404, "Unknown job"),
    "not-found": ProblemKind(404, "Not found"),
    "method-not-allowed": ProblemKind(405, "Method not allowed"),
    "body-timeout": ProblemKind(408, "The body did not arrive in time"),
    "cancelled": ProblemKind(409, "The job was cancelled"),
    "body-too-large": ProblemKind(413, "The body is too large"),
    "unsupported-media-type": ProblemKind(415, "Unsupported media type"),
    "invalid-arguments": ProblemKind(422, "Invalid arguments"),
    "quarantined": ProblemKind(422, "The job is quarantined"),
    "client-queue-full": ProblemKind(429, "This caller has too many queued jobs"),
    "internal-error": ProblemKind(500, "Internal error"),
    "task-error": ProblemKind(500, "The task raised an exception"),
    "worker-crashed": ProblemKind(500, "The worker crashed"),
    "memory-limit": ProblemKind(500, "The job exceeded its memory limit"),
    "result-not-serialisable": ProblemKind(500, "The result cannot be serialised"),
    "overloaded": ProblemKind(503, "The service is overloaded"),
    "draining": ProblemKind(503, "The service is stopping"),
    "starting": ProblemKind(503, "No worker is ready"),
    "job-timeout": ProblemKind(504, "The job exceeded its timeout"),
    "deadline-exceeded": ProblemKind(504, "The caller's budget ran out"),
}


class Problem(OffloadError):
    """Ends the handling of a request with a problem document.

    `fields` are further members of the document, `headers` further headers of the response.
    """

    def __init__(self, slug: str, detail: str, *, headers: Headers = (), **fields: object) -> None:
        super().__init__(slug, detail)
        self.slug = slug
        self.detail = detail
        self.headers = headers
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.slug}: {self.detail}"

    def document(self) -> dict[str, object]:
        return {**members(self.slug), "detail": self.detail, **self.fields}

    def reply(self) -> Reply:
        return problem_reply(self.slug, orjson.dumps(self.document(), default=str), self.headers)


class CallerGone(OffloadError):
    """The caller disconnected before its request was complete."""


def members(slug: str) -> dict[str, object]:
    """Returns the standard members of a document, without `detail`."""
    kind = PROBLEMS[slug]
    return {"type": f"/problems/{slug}", "title": kind.title, "status": kind.status}


def spliced(head: Mapping[str, object], encoded: bytes | bytearray | memoryview) -> bytes:
    """Returns `head` and the members of an encoded JSON object as one object, without parsing the latter."""
    rest = bytes(encoded)
    if rest[:1] != b"{" or rest == b"{}":
        return orjson.dumps(head)
    return b"%b,%b" % (orjson.dumps(head)[:-1], rest[1:])


def problem_reply(slug: str, body: bytes, headers: Headers) -> Reply:
    """Returns the reply with the encoded document `body` and further headers."""
    return Reply(PROBLEMS[slug].status, (_CONTENT_TYPE, *headers), body)


def printable(text: str) -> str:
    """Returns a caller's text shortened to 100 characters, with anything that JSON cannot express replaced."""
    short = text if len(text) <= _MAX_ECHO_CHARS else text[:_MAX_ECHO_CHARS] + "…"
    return short.encode("utf-8", "replace").decode("utf-8")
