"""The resource limits of a worker, which a job may lower for itself and forget to raise again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

# Those that make later jobs fail or kill them.
_NAMES: Final = (
    "RLIMIT_AS",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_STACK",
)


class ResourceLimits:
    """Remembers the limits when it is made.

    To read them all after each job would cost too much, and a job can change them only with the module `resource`. So
    nothing is compared until the user's modules or a task have imported that, see `forget_resource_module`.
    """

    def __init__(self) -> None:
        self._limits = _read()

    def are_unchanged(self) -> bool:
        return _read() == self._limits

    def restore(self) -> str:
        """Raise what the last job has lowered. Returns a problem, else ""."""
        if "resource" not in sys.modules:
            return ""
        present = _read()
        for name in [name for name, limit in self._limits.items() if present[name] != limit]:
            with _resource() as resource:
                try:
                    resource.setrlimit(getattr(resource, name), self._limits[name])
                except (ValueError, OSError):
                    return f"the hard limit {name} was lowered"
        return ""


def forget_resource_module() -> None:
    """Remove `resource`, if this package has imported it, from `sys.modules`, before the user's modules are loaded."""
    sys.modules.pop("resource", None)


def forbid_core_files() -> None:
    with _resource() as resource:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read() -> dict[str, tuple[int, int]]:
    with _resource() as resource:
        return {name: resource.getrlimit(getattr(resource, name)) for name in _NAMES if hasattr(resource, name)}


@contextmanager
def _resource() -> Iterator[Any]:
    """Yields the module without leaving a trace of it in `sys.modules`."""
    was_imported = "resource" in sys.modules
    import resource

    try:
        yield resource
    finally:
        if not was_imported:
            del sys.modules["resource"]
