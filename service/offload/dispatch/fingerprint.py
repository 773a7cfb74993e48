"""What tells one job from another with other arguments: a digest of the task and all that it is called with.

Lives here: the hashing, in steps between which the event loop goes on.  Only jobs of tasks that have crashed lately are
fingerprinted; the dispatcher asks.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Final

import orjson

from offload.core.job import Job
from offload.worker.frames import unpack_meta

# A quarter of a millisecond at a gigabyte a second.
_STEP_BYTES: Final = 256 * 1024
_DIGEST_BYTES: Final = 16


async def fingerprint_of(job: Job) -> str:
    """The same for two jobs exactly if they are of one task, with one query string and one body."""
    _, head = unpack_meta(job.meta)
    digest = blake2b(orjson.dumps([job.limits.name, head.query]), digest_size=_DIGEST_BYTES)
    body = memoryview(job.body)
    for start in range(0, len(body), _STEP_BYTES):
        if start:
            await asyncio.sleep(0)
        digest.update(body[start : start + _STEP_BYTES])
    return digest.hexdigest()
