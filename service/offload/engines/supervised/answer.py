"""Converts a worker's answer to the outcome of its job."""

from __future__ import annotations

from typing import Final

from offload.core.job import Job
from offload.core.outcome import Outcome, Reason
from offload.processes.output import OutputReader
from offload.wire.frames import PENDING_OUTPUT, STATUS_BITS, STATUSES, Header
from offload.wire.shared_bytes import SharedBytes

# Looked up once, as in `core.job`.
_SUCCEEDED: Final = Reason.SUCCEEDED
_TASK_ERROR: Final = Reason.TASK_ERROR


def outcome_of(
    job: Job, header: Header, meta: bytes, body: bytes | bytearray | SharedBytes, output: OutputReader
) -> Outcome:
    """Returns the outcome for a DONE frame; logs what the job has printed, read from its worker's `output`."""
    flag = header.flag
    if flag & PENDING_OUTPUT:
        output.read_pending()
    reason = STATUSES[flag & STATUS_BITS]
    if reason is _TASK_ERROR:
        output.log_raised(job, meta)
    return Outcome(
        reason=reason,
        body=body,
        media_type=meta.decode("latin-1") if reason is _SUCCEEDED else "",
        run_s=header.run_ns / 1e9,
        has_printed=output.has_news and output.end_of_job(),
    )
