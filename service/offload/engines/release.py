"""Releases the memory of large bodies and results.

Freeing a hundred megabytes takes the kernel tens of milliseconds, so the last descriptor is closed in a thread.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sized

from offload.wire.shared_bytes import SharedBytes


def release_body(body: Sized) -> None:
    """Release a large body; do nothing for others. May be called twice."""
    if not isinstance(body, SharedBytes) or body.is_closed:
        return
    if not body.is_whole:
        body.close()
    else:
        asyncio.get_running_loop().run_in_executor(None, os.close, body.detach())
