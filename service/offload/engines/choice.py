"""Which engine runs the jobs.

Lives here: the one table of engines, and the table of what each of them promises, as the README shows it.  An engine is
imported when it is wanted: one on a cluster pulls in a large package, which nobody else should need to have.
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
    """`make` is called with `EngineParts`; `needs` is the package that an extra of the engine's name installs."""

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

# Columns of the README's table: where each engine's capabilities stand.
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
    "stops_running_jobs": "a timeout, a cancel and a caller who hangs up stop the work and free the CPU",
    "isolates_deaths": "a worker's death, by our own kill too, costs its own job and no other",
    "names_deaths": "a crash is told with its signal or exit code",
    "knows_what_had_begun": "a job that had not begun when its worker died is started elsewhere, none is begun twice",
    "limits_memory": "`@task(memory=…)` is enforced",
    "starts_before_jobs": "tasks are loaded and `@on_worker_start` called before a worker takes jobs; a failure is "
    "told in `/stats`, and braked",
    "ends_with_service": "workers end with the service, `kill -9` included",
    "knows_who_printed": "what a task prints is logged with its job's id",
    "prefetches": "short jobs wait in their worker, for speed",
    "keeps_spares": "`--spares`",
    "retires_workers": "`--max-jobs-per-worker`, `--max-rss-per-worker`",
    "unpickles_results": "nothing that a worker sends is unpickled by the service",
}
_NEGATED: Final = frozenset({"unpickles_results"})


def make_engine(**parts: Unpack[EngineParts]) -> ServedEngine:
    """The engine that the settings ask for.  Raises SettingsError where it cannot be had or cannot do what they ask."""
    settings = parts["settings"]
    row = _ENGINES[settings.engine]
    if row.needs and find_spec(row.needs) is None:
        raise SettingsError([f"--engine {settings.engine} needs a package: pip install 'offload[{settings.engine}]'"])
    make: Any = getattr(import_module(row.module), row.make)
    engine: ServedEngine = make(**parts)
    faults = [
        f"{flag} cannot be used with --engine {settings.engine}" for flag in _beyond(settings, engine.capabilities)
    ]
    if faults:
        raise SettingsError(faults)
    return engine


def promise_table() -> list[str]:
    """The lines of the README's table: promises, and which engine keeps them."""
    columns = {title: getattr(import_module(module), name).as_dict() for title, (module, name) in _COLUMNS.items()}
    lines = [f"| promise | {' | '.join(columns)} |", f"| --- {'| --- ' * len(columns)}|"]
    for name, promise in _PROMISES.items():
        cells = ["yes" if able[name] != (name in _NEGATED) else "**no**" for able in columns.values()]
        lines.append(f"| {promise} | {' | '.join(cells)} |")
    return lines


def _beyond(settings: Settings, capabilities: Capabilities) -> Iterator[str]:
    if settings.executor and settings.engine is not EngineName.EXECUTOR:
        yield "--executor"
    if settings.engine_address and not _ENGINES[settings.engine].needs:
        yield "--engine-address"
    if settings.spares and not capabilities.keeps_spares:
        yield "--spares"
    if not capabilities.retires_workers:
        if settings.max_jobs_per_worker:
            yield "--max-jobs-per-worker"
        if settings.max_rss_per_worker:
            yield "--max-rss-per-worker"
