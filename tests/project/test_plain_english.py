"""The project is written in plain English: some figures of speech are forbidden everywhere.

Checked are docstrings, comments and string literals of Python files, and the whole text of all other files. A figure is
found across line breaks and whatever its case, except that `None` with a capital N is Python's value.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[2]
CHECKED: Final = ("service", "tests", "deploy", "README.md", "Makefile", "pyproject.toml", ".ci")
# Word by word, so that this file passes its own test.
FIGURES: Final = (
    ("is", "none"),
    ("is", "no"),
    ("of", "ours"),
    ("who" + "ever",),
    ("so", "many", "of", "them"),
    ("lets", "go", "of"),
    ("let", "go", "of"),
    ("nobody", "can"),
    ("lives", "here:"),
)


def _any_of(between_words: str) -> re.Pattern[str]:
    """Returns the pattern of all figures. `None` with a capital N is Python's."""
    figures = "|".join(between_words.join(map(re.escape, words)) for words in FIGURES)
    return re.compile(rf"\b(?!(?-i:is\s+None\b))(?:{figures})(?![\w-])", re.IGNORECASE)


FORBIDDEN: Final = _any_of(r"\s+")
# Finds at least as much in the source itself: line breaks, marks of comments, quotes and prefixes may come between.
_SUSPECT: Final = _any_of(r"\W+(?:[bfr]{1,2}\W+)?")
# The mark of a comment at the beginning of a line, in Python and in every other format used here.
_COMMENT_MARK: Final = re.compile(r"^[ \t]*#+[ \t]?", re.MULTILINE)


class Text(NamedTuple):
    """A piece of prose and the number of its first line."""

    line: int
    text: str


def files() -> Iterator[Path]:
    for name in CHECKED:
        root = ROOT / name
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and not any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts):
                yield path


def prose(path: Path) -> Iterator[Text]:
    source = path.read_text(encoding="utf-8")
    if not _SUSPECT.search(source):
        return
    if path.suffix == ".py":
        yield from comments(source)
        yield from literals(source)
    else:
        yield Text(1, source)


def comments(source: str) -> Iterator[Text]:
    """Yields comments; those on consecutive lines are one text."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield Text(first, "\n".join(block))
                block = []
            if not block:
                first = token.start[0]
            block.append(token.string)
            last = token.start[0]
    if block:
        yield Text(first, "\n".join(block))


def literals(source: str) -> Iterator[Text]:
    """Yields string literals, docstrings included; adjacent ones are one text."""
    tree = ast.parse(source)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield Text(
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield Text(node.lineno, node.value)


def figures(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Yields "file:line: figure" for each forbidden figure."""
    for line, text in prose(path):
        # A mark is blanked, so that a figure that spans two lines of a comment is found.
        plain = _COMMENT_MARK.sub(" ", text)
        for found in FORBIDDEN.finditer(plain):
            number = line + plain.count("\n", 0, found.start())
            yield f"{path.relative_to(root)}:{number}: {' '.join(found[0].split())}"


def test_no_forbidden_figure_is_left() -> None:
    found = [line for path in files() for line in figures(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""There is~no\n    way."""\n', ["one.py:1: is~no"]),
        (
            "x = 1\n# all of it\n# is~none, and\n# so~many~of\n# them\n",
            ["one.py:3: is~none", "one.py:4: so~many~of~them"],
        ),
        ("def f(x):\n    return f'{x} of~' f'ours'\n", ["one.py:2: of~ours"]),
        ("is_none = x is None  # returns whether x is None\n", []),
        ("pass  # who~ever\n", []),
        ("print('It is', 'none')\n", []),
    ],
)
def test_a_figure_is_found_in_all_prose_of_python_files(source: str, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(source.replace("~", " "), encoding="utf-8")
    assert list(figures(path, tmp_path)) == [line.replace("~", " ") for line in expected]


def test_a_figure_is_found_in_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("a: 1  # Nobody~\n      # can\n".replace("~", ""), encoding="utf-8")
    assert list(figures(path, tmp_path)) == ["one.yaml:1: Nobody~can".replace("~", " ")]
