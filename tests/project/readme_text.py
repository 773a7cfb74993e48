"""The README taken apart: tables, commands and files, as the tests of this folder want them.

A section is what stands between two headings of the second level.  A fence marked `console`
holds commands that are run, after `$ `, each followed by what it prints; a fence marked `python` whose first line is a
comment with a name is a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME: Final = re.compile(r"# (\w+\.py)\n")
_BRACES: Final = re.compile(r"\{([^}]*)\}")
_CODE: Final = re.compile(r"`([^`]+)`")
# Stands in what a command prints for what differs each time.
_ANYTHING: Final = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command with the output that the README shows for it."""

    line: str
    output: str

    def has_printed(self, text: str) -> bool:
        pattern = ".*".join(re.escape(part) for part in self.output.split(_ANYTHING))
        return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


def section(readme: str, title: str) -> str:
    """The text below a heading; the beginning of the README for "offload"."""
    found = re.search(rf"^##? {re.escape(title)}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the README has no section {title!r}"
    return found[1]


def fences(text: str, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(text) if kind == language]


def commands(text: str) -> list[Command]:
    found = []
    for block in fences(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            found.append(Command(line=line, output=output.strip()))
    return found


def files(text: str) -> dict[str, str]:
    """The Python files that the text shows, by name."""
    return {found[1]: body for body in fences(text, "python") if (found := _FILE_NAME.match(body))}


def rows(text: str, first_column: str) -> list[list[str]]:
    """The cells of the table whose first column is called that, without its head."""
    lines = text.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(f"| {first_column} |")]
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" |")])
    return found


def code_spans(text: str) -> list[str]:
    return _CODE.findall(text)


def expanded(text: str) -> Iterator[str]:
    """As a shell does it: "a.{b,c}" is "a.b" and "a.c"."""
    choices = [choice.split(",") for choice in _BRACES.findall(text)]
    for chosen in product(*choices):
        parts = iter(chosen)
        yield _BRACES.sub(lambda _: next(parts), text)  # noqa: B023  # used up before the next round
