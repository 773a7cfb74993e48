"""Formats instants for the documents of the HTTP interface."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def timestamp(unix_s: float | None = None) -> str:
    """Returns an instant in UTC with microseconds, as RFC 3339 has it; the present one by default."""
    instant = datetime.fromtimestamp(time.time() if unix_s is None else unix_s, UTC)
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")
