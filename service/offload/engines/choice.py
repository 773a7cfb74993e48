"""Chooses the engine that runs the jobs, and makes the documentation's table of what each engine can do.

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

# Columns of the documentation's table: module and name of each engine's capabilities.
_COLUMNS: Final = {
    "`supervised`": ("offload.engines.supervised.engine", "CAPABILITIES"),
    "`pool`": ("offload.engines.pool", "CAPABILITIES"),
    "`executor`": ("offload.engines.executor", "CAPABILITIES"),
    "`executor` with `--executor`": ("offload.engines.executor", "FACTORY_CAPABILITIES"),
    "`dask`": ("offload.engines.cluster.dask", "CAPABILITIES"),
    "`dask` with `--engine-address`": ("offload.engines.cluster.dask", "ADDRESS_CAPABILITIES"),
    "`ray`": ("offload.engines.cluster.ray", "CAPABILITIES"),
}
_PROMISES: Final = {
    "stops_running_jobs": "a timeout, a cancel or a disconnect stops the work and frees the CPU",
    "isolates_deaths": "a worker's death, even a kill by the service, costs its own job only",
    "names_deaths": "a crash is reported with its signal or exit code",
    "knows_what_had_begun": "a job that had not begun when its worker died runs elsewhere; no job begins twice",
    "limits_memory": "`@task(memory=…)` is enforced",
    "starts_before_jobs": "a worker loads the tasks and calls `@on_worker_start` before it takes jobs; failures are "
    "shown in `/stats`, and slow down further starts",
    "ends_with_service": "workers end with the service, even after `kill -9`",
    "knows_who_printed": "what a task prints is logged with the id of its job",
    "prefetches": "short jobs wait in a worker, which is faster",
    "keeps_spares": "`--spares`",
    "retires_workers": "`--max-jobs-per-worker`, `--max-rss-per-worker`",
    "unpickles_results": "the service never unpickles what a worker sends",
}
_NEGATED: Final = frozenset({"unpickles_results"})


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


def promise_table() -> list[str]:
    """Returns the lines of the documentation's table: each promise, and the engines that keep it."""
    columns = {title: getattr(import_module(module), name).as_dict() for title, (module, name) in _COLUMNS.items()}
    lines = [f"| promise | {' | '.join(columns)} |", f"| --- {'| --- ' * len(columns)}|"]
    for name, promise in _PROMISES.items():
        cells = ["yes" if able[name] != (name in _NEGATED) else "**no**" for able in columns.values()]
        lines.append(f"| {promise} | {' | '.join(cells)} |")
    return lines


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
