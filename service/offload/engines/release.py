"""Letting go of large bodies and results in the service's process.

Lives here: the one way in which the event loop gives one up, whoever holds it by then.  To free a hundred megabytes
takes the kernel tens of milliseconds, so the last descriptor is closed in a thread.  What a worker has used up is free
already.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sized

from offload.wire.shared_bytes import SharedBytes


def release_body(body: Sized) -> None:
    """Nobody here needs it any more; of others than large ones there is nothing to let go.  May be called twice."""
    if not isinstance(body, SharedBytes) or body.is_closed:
        return
    if not body.is_whole:
        body.close()
    else:
        asyncio.get_running_loop().run_in_executor(None, os.close, body.detach())
