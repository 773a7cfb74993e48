"""Chooses the engine that runs the jobs.

An engine is imported only when it is chosen: those for clusters need large packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, Unpack

from offload.engines.base import Capabilities, EngineParts, ServedEngine
from offload.errors import SettingsError
from offload.settings.table import EngineName, Settings


class _Row(NamedTuple):
    """`make` is called with `EngineParts`. `needs` is a package; the extra with the engine's name installs it."""

    module: str
    make: str
    needs: str = ""


_ENGINES: Final = {
    EngineName.SUPERVISED: _Row("offload.engines.supervised.engine", "SupervisedEngine"),
    EngineName.POOL: _Row("offload.engines.pool", "pool_engine"),
    EngineName.EXECUTOR: _Row("offload.engines.executor", "executor_engine"),
    EngineName.DASK: _Row("offload.engines.cluster.dask", "dask_engine", needs="distributed"),
    EngineName.RAY: _Row("offload.engines.cluster.ray", "ray_engine", needs="ray"),
}


def make_engine(**parts: Unpack[EngineParts]) -> ServedEngine:
    """Returns the chosen engine. Raises SettingsError if its package is missing or it does not support a setting."""
    settings = parts["settings"]
    row = _ENGINES[settings.engine]
    if row.needs and find_spec(row.needs) is None:
        install = f"pip install 'offload[{settings.engine}]'"
        raise SettingsError([f"--engine {settings.engine} needs the package {row.needs!r}; install it with {install}"])
    make: Any = getattr(import_module(row.module), row.make)
    engine: ServedEngine = make(**parts)
    faults = [
        f"{flag} cannot be used with --engine {settings.engine}; remove it, or use --engine {able}"
        for flag, able in _unsupported(settings, engine.capabilities)
    ]
    if faults:
        raise SettingsError(faults)
    return engine


def _unsupported(settings: Settings, capabilities: Capabilities) -> Iterator[tuple[str, str]]:
    """Yields each flag that the engine does not support, and the engines that do."""
    if settings.executor and settings.engine is not EngineName.EXECUTOR:
        yield "--executor", "executor"
    if settings.engine_address and not _ENGINES[settings.engine].needs:
        yield "--engine-address", "dask or ray"
    if settings.spares and not capabilities.keeps_spares:
        yield "--spares", "supervised"
    if not capabilities.retires_workers:
        if settings.max_jobs_per_worker:
            yield "--max-jobs-per-worker", "supervised"
        if settings.max_rss_per_worker:
            yield "--max-rss-per-worker", "supervised"
