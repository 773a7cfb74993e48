"""The one error of the benchmark."""

from __future__ import annotations

from offload.errors import OffloadError


class BenchError(OffloadError):
    """The benchmark cannot go on; the text says in a sentence why."""
