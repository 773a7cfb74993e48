"""Calls that may block for long, or for ever, in threads of their own.

A thread of a pool would do, but nobody waits for these when the loop or the interpreter ends: what a foreign library
does in them is not ours to bound.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[T]):
    """What came of a call; `error` may be any exception, SystemExit included, which no future of the loop may hold."""

    value: T | None = None
    error: BaseException | None = None


def off_loop(call: Callable[[], T], *, name: str) -> asyncio.Future[Done[T]]:
    """Runs it in a new thread.  The future never fails."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Done[T]] = loop.create_future()

    def tell(done: Done[T]) -> None:
        if not future.done():
            future.set_result(done)

    def run() -> None:
        try:
            done = Done(value=call())
        except BaseException as error:
            done = Done(error=error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, done)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
