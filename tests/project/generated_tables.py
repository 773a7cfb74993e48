"""The tables of the documentation that are generated from the code.

`python -m tests.project.generated_tables` writes them into the pages; a test fails while they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from offload.settings.table import table
from offload.worker.imports.holdings import HeldKind
from tests.project.documentation import DOCS, README

# The settings that the README shows.
_FIRST_SETTINGS: Final = (
    "host",
    "port",
    "workers",
    "timeout",
    "queue_limit",
    "max_body",
    "drain_timeout",
    "client_header",
)

# The columns of the table of promises: module and name of each engine's capabilities.
_COLUMNS: Final = {
    "`supervised`": ("offload.engines.supervised.engine", "CAPABILITIES"),
    "`pool`": ("offload.engines.pool", "CAPABILITIES"),
    "`executor`": ("offload.engines.executor", "CAPABILITIES"),
    "`executor` with `--executor`": ("offload.engines.executor", "FACTORY_CAPABILITIES"),
    "`dask`": ("offload.engines.cluster.dask", "CAPABILITIES"),
    "`dask` with `--engine-address`": ("offload.engines.cluster.dask", "ADDRESS_CAPABILITIES"),
    "`ray`": ("offload.engines.cluster.ray", "CAPABILITIES"),
}
PROMISES: Final = {
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


def settings_table() -> list[str]:
    lines = ["| option | what it is | range | default | why this default |", "| --- | --- | --- | --- | --- |"]
    for setting in table():
        cells = (f"`{setting.flag}`", setting.help, setting.kind.range, setting.default, setting.reason)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def first_settings_table() -> list[str]:
    lines = ["| option | default | what it is |", "| --- | --- | --- |"]
    settings = {setting.name: setting for setting in table()}
    for setting in map(settings.__getitem__, _FIRST_SETTINGS):
        _, _, zero = setting.kind.range.removesuffix(")").partition(" (0 = ")
        default = f"0: {zero}" if setting.default == "0" and zero else setting.default
        lines.append(f"| `{setting.flag}` | {default} | {setting.help} |")
    return lines


def promise_table() -> list[str]:
    """Returns each promise, and the engines that keep it."""
    columns = {title: getattr(import_module(module), name).as_dict() for title, (module, name) in _COLUMNS.items()}
    lines = [f"| promise | {' | '.join(columns)} |", f"| --- {'| --- ' * len(columns)}|"]
    for name, promise in PROMISES.items():
        cells = ["yes" if able[name] != (name in _NEGATED) else "**no**" for able in columns.values()]
        lines.append(f"| {promise} | {' | '.join(cells)} |")
    return lines


def holdings_table() -> list[str]:
    """Returns what copies of a process cannot share, as the log says it, and what to do."""
    lines = ["| `tasks.py …` | what to do |", "| --- | --- |"]
    return lines + [f"| `{said.format('…')}` | {remedy} |" for said, remedy in (kind.value for kind in HeldKind)]


def with_table(text: str, table_lines: list[str]) -> str:
    """Returns the text with the table of the same head replaced."""
    lines = text.splitlines()
    start = end = lines.index(table_lines[0])
    while lines[end].startswith("|"):
        end += 1
    return "\n".join([*lines[:start], *table_lines, *lines[end:]]) + "\n"


TABLES: Final[Mapping[Path, Callable[[], list[str]]]] = {
    README: first_settings_table,
    DOCS / "settings.md": settings_table,
    DOCS / "engines.md": promise_table,
    DOCS / "tasks.md": holdings_table,
}


if __name__ == "__main__":
    for path, make_table in TABLES.items():
        path.write_text(with_table(path.read_text(encoding="utf-8"), make_table()), encoding="utf-8")
