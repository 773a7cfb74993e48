"""The documentation as the tests of this folder read it: pages, sections, tables, commands and files.

A section is the text between two headings of level two. A `console` fence holds commands, each after `$ ` and followed
by its output, in which `…` stands for anything. A `python` fence whose first line is a comment with a file name is a
file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "service" / "docs"
PAGES: Final = (README, *sorted(DOCS.glob("*.md")))

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME: Final = re.compile(r"# (\w+\.py)\n")
_BRACES: Final = re.compile(r"\{([^}]*)\}")
_CODE: Final = re.compile(r"`([^`]+)`")
_ANYTHING: Final = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command and the output that a page shows for it."""

    line: str
    output: str

    def has_printed(self, text: str) -> bool:
        pattern = ".*".join(re.escape(part) for part in self.output.split(_ANYTHING))
        return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


def page(name: str) -> str:
    """Returns the text of a page: "README.md", or the name of a file in `service/docs`."""
    return (README if name == README.name else DOCS / name).read_text(encoding="utf-8")


def titles(text: str) -> list[str]:
    """Returns the headings of level one and two, without those in fences."""
    return re.findall(r"^##? (.+)$", without_fences(text), re.MULTILINE)


def section(text: str, title: str) -> str:
    """Returns the text below a heading; for a page's own title, the text above the first section."""
    found = re.search(rf"^##? {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {title!r}"
    return found[1]


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


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
    """Returns the Python files that the text shows, by name."""
    return {found[1]: body for body in fences(text, "python") if (found := _FILE_NAME.match(body))}


def rows(text: str, *first_columns: str) -> list[list[str]]:
    """Returns the cells of the table whose first columns have these titles, without its head."""
    head = f"| {' | '.join(first_columns)} |"
    lines = text.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(head)]
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" |")])
    return found


def code_spans(text: str) -> list[str]:
    return _CODE.findall(text)


def expanded(text: str) -> Iterator[str]:
    """Expands braces as a shell does: "a.{b,c}" is "a.b" and "a.c"."""
    choices = [choice.split(",") for choice in _BRACES.findall(text)]
    for chosen in product(*choices):
        parts = iter(chosen)
        yield _BRACES.sub(lambda _: next(parts), text)  # noqa: B023  # used up before the next round


def anchors(text: str) -> set[str]:
    """Returns the anchors of the headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles(text)}
