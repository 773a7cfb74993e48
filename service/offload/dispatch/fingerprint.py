"""The fingerprint of a job: a digest of the task and all that it is called with.

Hashing goes in steps, so that the event loop stays responsive. Only jobs of tasks that have crashed lately are
fingerprinted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sized
from hashlib import blake2b
from typing import Final, cast

import orjson

from offload.core.job import Job
from offload.wire.shared_bytes import SharedBytes

# A quarter of a millisecond at a gigabyte a second.
_STEP_BYTES: Final = 256 * 1024
_DIGEST_BYTES: Final = 16


async def fingerprint_of(job: Job) -> str | None:
    """Returns the same for two jobs exactly if task, query string and body are the same.

    None if a worker has used up the body. That happens in the last attempt, and jobs of a task that has crashed are
    fingerprinted before: so only the first crash with a large body goes unrecognised.
    """
    body = job.request.body
    if isinstance(body, SharedBytes) and not body.is_whole:
        return None
    digest = blake2b(orjson.dumps([job.limits.name, job.request.head.query]), digest_size=_DIGEST_BYTES)
    for number, piece in enumerate(_pieces(body)):
        if number:
            await asyncio.sleep(0)
        digest.update(piece)
    return digest.hexdigest()


def _pieces(body: Sized) -> Iterator[bytes | memoryview]:
    if isinstance(body, SharedBytes):
        yield from body.pieces(_STEP_BYTES)
        return
    whole = memoryview(cast(bytes, body))
    for start in range(0, len(whole), _STEP_BYTES):
        yield whole[start : start + _STEP_BYTES]
