"""The benchmark's one error."""


class BenchError(Exception):
    """The benchmark cannot continue; the text says why."""
