"""The problems of requests that are rejected before they become jobs, and of bugs in the service.

Each detail says what happened, the limit, and what to do. `outcomes` has the details of jobs.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from aiohttp import hdrs

from offload.web.answers.problems import Problem, printable


def malformed_head() -> Problem:
    return Problem(
        "bad-request",
        "Malformed HTTP request: the request line and headers are not valid HTTP/1.1, or exceed the size limits "
        "(8190 bytes per line). Correct or shorten them.",
    )


def malformed_body() -> Problem:
    return Problem(
        "bad-request",
        "Malformed HTTP request: the body does not have the length or the chunks that its headers announce. "
        "The job was not run. Correct the body and send the request again.",
    )


def invalid_request_timeout(values: Sequence[str], max_s: int) -> Problem:
    return Problem(
        "invalid-header",
        f"Request-Timeout is {printable(', '.join(values))!r}. "
        f"Send one number of seconds above 0 and at most {max_s}, for example 2.5.",
        header="Request-Timeout",
    )


def unknown_task(name: str, known: Sequence[str]) -> Problem:
    """`known` are similar names of tasks."""
    hint = f"Did you mean {known[0]!r}?" if known else "GET /tasks lists the available tasks."
    return Problem("unknown-task", f"Task {printable(name)!r} does not exist. {hint}", known=known)


def unknown_job(job_id: str, task: str) -> Problem:
    return Problem(
        "unknown-job",
        f"Task {printable(task)!r} has no queued or running job {printable(job_id)!r}. "
        "Jobs are not kept after they end.",
    )


def not_found(path: str) -> Problem:
    return Problem("not-found", f"Path {printable(path)!r} does not exist. GET / lists the available paths.")


def method_not_allowed(method: str, allowed: str) -> Problem:
    """`allowed` is the value of the `Allow` header."""
    return Problem(
        "method-not-allowed",
        f"{printable(method)} is not allowed here. Allowed methods: {allowed}.",
        headers=((hdrs.ALLOW, allowed),),
    )


def body_timeout(limit_s: float) -> Problem:
    return Problem(
        "body-timeout",
        f"The body did not arrive within {limit_s:g} s. "
        "Send it faster, split the work into smaller jobs, or have the service's --body-timeout raised.",
        limit_s=limit_s,
    )


def body_too_large(limit_bytes: int) -> Problem:
    return Problem(
        "body-too-large",
        f"The body is larger than {limit_bytes} bytes. "
        "Split the work into smaller jobs, or have the service's --max-body raised.",
        limit_bytes=limit_bytes,
    )


def unsupported_transfer(transfer_encoding: str) -> Problem:
    return Problem(
        "bad-request",
        f"Transfer-Encoding {printable(transfer_encoding)!r} is not supported. "
        "Send the body chunked or with its length; compress it with Content-Encoding.",
    )


def partial_body() -> Problem:
    return Problem(
        "bad-request",
        "Content-Range says that the body is a part of the data. A job takes a whole body: send all of it at once.",
    )


def unsupported_encoding(content_encoding: str, supported: Sequence[str]) -> Problem:
    """`supported` are the content codings that workers can inflate."""
    remedy = f"Send it with one coding ({' or '.join(supported)}), or unencoded" if supported else "Send it unencoded"
    return Problem(
        "unsupported-media-type",
        f"Content-Encoding {printable(content_encoding)!r} of the body is not supported. {remedy}.",
        headers=((hdrs.ACCEPT_ENCODING, ", ".join(supported) or "identity"),),
        supported=[*supported, "identity"],
    )


def unsupported_media_type(task: str, media_type: str, supported: Sequence[str]) -> Problem:
    return Problem(
        "unsupported-media-type",
        f"Task {task!r} does not accept {printable(media_type)}. Send {' or '.join(supported)}.",
        supported=supported,
    )


def internal_error(error: BaseException | None, *, is_debug: bool) -> Problem:
    """The problem of a bug in the service, with the traceback only if `is_debug`."""
    detail = "The service failed because of a bug and has logged it. The request may be sent again."
    if is_debug and error is not None:
        return Problem("internal-error", detail, traceback="".join(traceback.format_exception(error)))
    return Problem("internal-error", detail)
