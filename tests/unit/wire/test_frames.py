"""The layout of frames, and the rejection of invalid ones."""

from __future__ import annotations

import struct

import pytest

from offload.core.job import JobId
from offload.core.outcome import Reason
from offload.core.request import JobHead
from offload.errors import FrameError
from offload.wire.frames import (
    HEADER_BYTES,
    LEAVING,
    MAGIC,
    MAX_BODY_BYTES,
    MAX_META_BYTES,
    PENDING_OUTPUT,
    STATUS_BITS,
    STATUSES,
    FrameKind,
    Header,
    check_from_worker,
    pack_answer,
    pack_job,
    pack_meta,
    pack_retire,
    unpack,
    unpack_meta,
)


def test_a_header_has_the_documented_layout() -> None:
    header = pack_job(number=7, task_index=2, attempt=3, meta_bytes=4, body_bytes=5)
    assert header == bytes([1, 3, 2, 0, 4, 0, 0, 0]) + struct.pack("<QQQ", 5, 7, 0)
    assert len(header) == HEADER_BYTES == 32


def test_an_answer_survives_packing_and_unpacking() -> None:
    header = pack_answer(
        FrameKind.DONE, flag=1 | PENDING_OUTPUT, meta_bytes=3, body_bytes=1 << 30, number=1 << 60, run_ns=9
    )
    assert unpack(b"rest" + header, 4) == Header(FrameKind.DONE, 1 | PENDING_OUTPUT, MAGIC, 3, 1 << 30, 1 << 60, 9)


def test_the_meta_of_a_job_holds_its_id_and_head() -> None:
    job_id, head = "0123456789abcdef" * 2, JobHead(query="a=1", accept="é", request_id="r-1")
    meta = pack_meta(JobId(job_id), head)
    assert meta == (job_id + '["a=1","","é","r-1","",""]').encode()
    assert unpack_meta(meta) == (job_id, head)


def test_an_attempt_above_255_is_sent_as_255() -> None:
    assert unpack(pack_job(number=1, task_index=0, attempt=1000, meta_bytes=0, body_bytes=0)).flag == 255


def test_every_status_of_a_finished_job_has_a_number() -> None:
    for flag, status in enumerate(STATUSES):
        check_from_worker(unpack(pack_answer(FrameKind.DONE, flag=flag | PENDING_OUTPUT | LEAVING)))
        assert isinstance(status, Reason)
    assert len(STATUSES) <= STATUS_BITS


@pytest.mark.parametrize(
    "header",
    [
        pack_retire(),
        pack_job(number=1, task_index=0, attempt=1, meta_bytes=0, body_bytes=0),
        pack_job(number=1, task_index=MAGIC, attempt=1, meta_bytes=0, body_bytes=0),
        bytes(HEADER_BYTES),
        b"\xff" * HEADER_BYTES,
        b"print(1)\n" * 4,
        pack_answer(FrameKind.DONE, meta_bytes=MAX_META_BYTES + 1),
        pack_answer(FrameKind.DONE, body_bytes=MAX_BODY_BYTES + 1),
        pack_answer(FrameKind.DONE, flag=len(STATUSES)),
    ],
    ids=[
        "retire",
        "job",
        "magic job",
        "zeros",
        "ones",
        "text",
        "long meta",
        "long body",
        "unknown status",
    ],
)
def test_a_header_that_no_worker_sends_is_rejected(header: bytes) -> None:
    with pytest.raises(FrameError, match="malformed frame on a worker's channel"):
        check_from_worker(unpack(header))
