"""What a caller asks for, made once by the layer that submits the job.

A `JobRequest` is the terms and the body. Clients send the same head with each of their requests, so all jobs with the
same head share one `JobTerms`.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Final, NamedTuple

DEFAULT_URGENCY: Final = 3  # RFC 9218, section 4.1
URGENCIES: Final = 8  # RFC 9218: 0 (most urgent) to 7


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """What the core knows of a task.

    `index` is the task's position in the catalogue. `timeout_s` limits the run time, seconds. `memory_bytes` limits
    the peak resident memory of the worker and its descendants, None for no limit. `retries` is how often a job whose
    worker died is started again. `max_running` and `max_queued` limit how many jobs of the task run and wait at once, 0
    for no limit. `urgency` applies where the caller names none.
    """

    name: str
    index: int
    timeout_s: float
    memory_bytes: int | None = None
    retries: int = 0
    max_running: int = 0
    max_queued: int = 0
    urgency: int = DEFAULT_URGENCY


class JobHead(NamedTuple):
    """The parts of a request's head that go to the worker and into the log, as sent; empty where absent.

    `content_encoding` is one content coding, in lower case; empty for a body that is not compressed.
    """

    query: str = ""
    content_type: str = ""
    accept: str = ""
    request_id: str = ""
    traceparent: str = ""
    content_encoding: str = ""

    def labels(self) -> dict[str, str]:
        """Returns the log fields by which a caller finds its job."""
        fields = {"request_id": self.request_id, "traceparent": self.traceparent}
        return {name: value for name, value in fields.items() if value}


NO_HEAD: Final = JobHead()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTerms:
    """What the head of a request asks for.

    `client` identifies the caller. `budget_s` is the time that the caller allows from admission to answer, None for no
    limit. The core does not read `head`.
    """

    limits: TaskLimits
    client: str = ""
    budget_s: float | None = None
    urgency: int = DEFAULT_URGENCY
    head: JobHead = NO_HEAD


# Not frozen: one is made for every job, and freezing doubles what that costs.
class JobRequest:
    """The core reads only the length of `body`."""

    __slots__ = ("body", "terms")

    def __init__(self, terms: JobTerms, body: Sized = b"") -> None:
        self.terms = terms
        self.body = body

    @property
    def head(self) -> JobHead:
        return self.terms.head
