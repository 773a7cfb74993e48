"""The resource limits of a worker, which a job may lower for itself and forget to raise again."""

from __future__ import annotations

import sys
from typing import Final

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
    """The limits at the time at which it is made.

    A job cannot change them without the module `resource`, and a job that costs nothing cannot afford to read them all.
    So nothing of ours keeps that module in `sys.modules`, and nothing is compared until a task has imported it.
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
        import resource

        for name, limit in self._limits.items():
            if present[name] != limit:
                try:
                    resource.setrlimit(getattr(resource, name), limit)
                except (ValueError, OSError):
                    return f"the hard limit {name} was lowered"
        return ""


def forbid_core_files(*, is_user_loaded: bool) -> None:
    """`is_user_loaded`: the user's modules, which may have imported `resource`, are loaded in this process."""
    was_imported = is_user_loaded and "resource" in sys.modules
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not was_imported:
        del sys.modules["resource"]


def _read() -> dict[str, tuple[int, int]]:
    was_imported = "resource" in sys.modules
    import resource

    limits = {name: resource.getrlimit(getattr(resource, name)) for name in _NAMES if hasattr(resource, name)}
    if not was_imported:
        del sys.modules["resource"]
    return limits
