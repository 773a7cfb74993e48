"""Runs calls that may block for long, or forever, in threads of their own.

These are not threads of a pool, because neither the loop nor the interpreter may wait for them at its end: what a
library does in them cannot be bounded.
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
    """The result of a call. `error` may be any exception, even SystemExit, which an asyncio future must not hold."""

    value: T | None = None
    error: BaseException | None = None


def off_loop(call: Callable[[], T], *, name: str) -> asyncio.Future[Done[T]]:
    """Run `call` in a new thread. The future never fails."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Done[T]] = loop.create_future()

    def set_result(done: Done[T]) -> None:
        if not future.done():
            future.set_result(done)

    def run() -> None:
        try:
            done = Done(value=call())
        except BaseException as error:
            done = Done(error=error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_result, done)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
