"""What the README says of settings, errors, statistics, tests and targets is what the code says."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from offload.core import prefetch
from offload.core.job import Reason
from offload.core.queue import job_queue as queue
from offload.engines.base import Capabilities
from offload.engines.choice import _PROMISES, promise_table
from offload.settings.table import table
from offload.web.answers.outcomes import _FIELDS
from offload.web.answers.problems import PROBLEMS
from offload.web.server import known_heads as request_heads
from offload.wire import shared_bytes
from tests.project.readme_text import code_spans, fences, rows, section

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "service" / "offload"


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def settings_table() -> list[str]:
    """The README's table of settings, a line a row."""
    lines = ["| option | what it is | range | default | why this default |", "| --- | --- | --- | --- | --- |"]
    for setting in table():
        cells = (f"`{setting.flag}`", setting.help, setting.kind.range, setting.default, setting.reason)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def test_the_table_of_settings_is_that_of_the_code(readme: str) -> None:
    lines = readme.splitlines()
    expected = settings_table()
    start = lines.index(expected[0])
    assert lines[start : start + len(expected) + 1] == [*expected, ""]


def test_the_table_of_engines_is_made_of_their_capabilities(readme: str) -> None:
    lines = readme.splitlines()
    expected = promise_table()
    start = lines.index(expected[0])
    assert lines[start : start + len(expected) + 1] == [*expected, ""]


def test_every_capability_has_its_line_in_the_table_of_engines() -> None:
    assert set(_PROMISES) == {field.name for field in dataclasses.fields(Capabilities)}


def test_every_option_of_the_command_is_in_the_section_on_settings(
    readme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from offload.cli import main

    assert main(["serve", "--help"]) == 0
    told = set(re.findall(r"--[a-z-]+", section(readme, "Settings")))
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - told == {"--help"}


def test_the_table_of_errors_has_every_problem_with_its_status(readme: str) -> None:
    told = {slug.strip("`"): int(status) for status, slug, *_ in error_rows(readme)}
    assert told == {slug: kind.status for slug, kind in PROBLEMS.items()}


def test_the_table_of_errors_has_the_fields_of_every_problem(readme: str) -> None:
    told = {slug.strip("`"): set(code_spans(re.sub(r"\(.*?\)", "", cell))) for _, slug, _, cell in error_rows(readme)}
    found = fields_in_code()
    assert told == {slug: found[slug] for slug in PROBLEMS}


def test_every_test_that_is_named_exists(readme: str) -> None:
    named = re.findall(r"tests/[\w/]+(?:\.py(?:::\w+)?)?", readme)
    assert named
    for name in named:
        path, _, function = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not function or f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_every_file_that_is_named_exists(readme: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / target).exists(), target
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", section(readme, "Architecture")):
        assert (PACKAGE / name).exists(), name


def test_every_anchor_leads_to_a_heading(readme: str) -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^##? (.+)$", readme, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", readme)) <= headings


def test_every_make_target_that_is_named_exists(readme: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {target for line in make_lines(readme) for target in re.findall(r"^make (\w+)", line)}
    assert {"serve", "test", "check", "bench"} <= named
    assert named <= set(re.findall(r"^(\w+):", makefile, re.M))


def test_every_variable_that_make_is_given_exists(readme: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = {name for line in make_lines(readme) for name in re.findall(r"\b([A-Z]+)=", line)}
    assert named
    assert named <= set(re.findall(r"\$\((\w+)\)", makefile))


def test_every_scenario_of_the_benchmark_that_is_named_exists(readme: str) -> None:
    from tests.benchmark.__main__ import SCENARIOS

    named = {name for names in re.findall(r'SCENARIOS="?([a-z ]+)', readme) for name in names.split()}
    assert named == set(SCENARIOS)


@pytest.mark.parametrize(
    "words",
    [
        f"({prefetch.MAX_AHEAD_S * 1e3:g} ms for all that waits there)",
        f"Up to {prefetch.MAX_IN_SLOT - 1} wait so in a worker",
        f"byte for byte, is not parsed again ({request_heads.MAX_KNOWN:,} are remembered)",
        f"less urgent jobs that have waited for {queue.AGED_S:g} s",
        f"over {shared_bytes.LARGE_BYTES / (1 << 20):g} MiB, lie in memory of their own",
    ],
)
def test_numbers_in_the_text_are_those_of_the_code(words: str, readme: str) -> None:
    assert words in " ".join(readme.split())


def test_the_layers_are_those_that_are_checked(readme: str) -> None:
    found = re.search(r"`(cli > [^`]+)`", section(readme, "Architecture"))
    assert found is not None
    configured = re.search(r"layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)
    assert configured is not None
    layers = [name for name in re.findall(r'"([^"]+)"', configured[1]) if not name.startswith("(")]
    assert found[1].split(" > ") == layers[: layers.index("settings") + 1]


def error_rows(readme: str) -> list[list[str]]:
    return rows(section(readme, "Limits and errors"), "status")


def make_lines(readme: str) -> Iterator[str]:
    """Lines of shell, and code in sentences."""
    for block in fences(readme, "sh"):
        yield from block.splitlines()
    yield from (span for span in code_spans(re.sub(r"^```.*?^```$", "", readme, flags=re.M | re.S)) if "make" in span)


def fields_in_code() -> dict[str, set[str]]:
    """The fields of each problem, by slug: those that are raised with it, and those of outcomes.

    `traceback` is left out: the README tells of it above the table, as it is there only with `--debug`.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (slug := slug_of(node)) is not None:
                given = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
                found[slug] |= given - {"detail", "headers", "traceback"}
    for reason, fields in _FIELDS.items():
        found[reason.value] |= set(fields)
    return found


def slug_of(call: ast.Call) -> str | None:
    """The problem that `Problem("slug", …)` or `Fault(Reason.SLUG, …)` makes."""
    if not isinstance(call.func, ast.Name) or not call.args:
        return None
    first = call.args[0]
    if call.func.id == "Problem" and isinstance(first, ast.Constant):
        return str(first.value)
    if call.func.id == "Fault" and isinstance(first, ast.Attribute):
        return Reason[first.attr].value
    return None
