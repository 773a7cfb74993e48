"""Keeps the logging of the service apart from that of the user's modules, where one process loads both (`fork`).

A module that configures logging at its import would otherwise configure the service's: add handlers to it, disable its
loggers, or end its handlers. And it would have no effect where the service has handlers already.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class RootLogging:
    """The configuration of the root logger, and of `logging.disable`."""

    handlers: list[logging.Handler] = field(default_factory=list)
    level: int = logging.WARNING
    disabled_level: int = logging.NOTSET

    def read(self) -> None:
        root = logging.getLogger()
        self.handlers, self.level, self.disabled_level = root.handlers[:], root.level, root.manager.disable

    def apply(self) -> None:
        """Make it the configuration of this process."""
        root = logging.getLogger()
        root.handlers[:] = self.handlers
        root.setLevel(self.level)
        root.manager.disable = self.disabled_level


@contextmanager
def logging_apart() -> Iterator[RootLogging]:
    """Hide the configuration of this process. Yields what the block has made of the default at its end."""
    made, before = RootLogging(), RootLogging()
    before.read()
    loggers = [
        (logger, logger.disabled, logger.level, logger.handlers[:])
        for logger in logging.getLogger().manager.loggerDict.values()
        if isinstance(logger, logging.Logger)
    ]
    # `logging.config` closes all handlers in this list, which has no public name; without it they are not protected.
    known: list[Any] = vars(logging).get("_handlerList", [])
    hidden = known[:]
    known.clear()
    made.apply()
    try:
        yield made
    finally:
        made.read()
        before.apply()
        known[:0] = hidden
        for logger, disabled, level, handlers in loggers:
            logger.disabled, logger.handlers[:] = disabled, handlers
            logger.setLevel(level)
