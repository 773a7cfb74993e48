"""The tables of the documentation that are generated from the code.

`python -m tests.project.generated_tables` writes them into the pages; a test fails while they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from offload.engines.choice import promise_table
from offload.settings.table import table
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
}


if __name__ == "__main__":
    for path, make_table in TABLES.items():
        path.write_text(with_table(path.read_text(encoding="utf-8"), make_table()), encoding="utf-8")
