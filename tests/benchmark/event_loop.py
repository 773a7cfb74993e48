"""The event loop of all that measures and is measured.

Lives here: the same choice as the service makes for itself, so that the loop makes no difference between the systems.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it is installed, asyncio's where not."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
