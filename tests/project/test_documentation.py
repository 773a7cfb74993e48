"""What the documentation says about settings, errors, engines, tests and targets is what the code says."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from offload.core import prefetch
from offload.core.outcome import OverloadCause, Reason
from offload.core.queue import job_queue
from offload.engines.base import Capabilities
from offload.settings.table import Settings
from offload.web.answers.outcomes import _FIELDS
from offload.web.answers.problems import PROBLEMS
from offload.web.server import known_heads
from offload.wire import shared_bytes
from tests.project.documentation import (
    DOCS,
    PAGES,
    README,
    ROOT,
    anchors,
    code_spans,
    fences,
    page,
    rows,
    section,
    titles,
    without_fences,
)
from tests.project.generated_tables import PROMISES, TABLES, with_table

PACKAGE = ROOT / "service" / "offload"
MAX_README_LINES = 220
MAX_README_WORDS = 2_200

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def everything() -> str:
    """All pages as one text."""
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


def test_the_readme_can_be_read_in_five_minutes() -> None:
    text = page("README.md")
    assert len(text.splitlines()) <= MAX_README_LINES
    assert len(text.split()) <= MAX_README_WORDS


def test_the_readme_links_to_every_page() -> None:
    assert {DOCS / name for name in re.findall(r"\(service/docs/(\w[\w-]*\.md)", page("README.md"))} == set(PAGES[1:])


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_a_generated_table_is_up_to_date(path: Path) -> None:
    """If not, run `python -m tests.project.generated_tables`."""
    text = path.read_text(encoding="utf-8")
    assert with_table(text, TABLES[path]()) == text


def test_every_capability_has_a_row_in_the_table_of_engines() -> None:
    assert set(PROMISES) == {field.name for field in dataclasses.fields(Capabilities)}


def test_every_option_of_the_command_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    from offload.cli import main

    assert main(["serve", "--help"]) == 0
    documented = set(re.findall(r"--[a-z-]+", page("settings.md")))
    assert set(re.findall(r"(?<![\w-])--[a-z-]+", capsys.readouterr().out)) - documented == {"--help"}


def test_every_option_of_task_is_documented() -> None:
    from inspect import signature

    from offload import task

    documented = [name for cell, *_ in rows(page("tasks.md"), "`@task(…)`") for name in code_spans(cell)]
    assert documented == [name for name in signature(task).parameters if name != "function"]


def test_every_cause_of_overload_is_documented() -> None:
    documented = [slug.strip("`") for slug, _ in rows(page("overload.md"), "`cause`")]
    assert documented == [cause.value for cause in OverloadCause]


def test_every_problem_is_documented_with_its_status() -> None:
    documented = {slug.strip("`"): int(status) for status, slug, *_ in error_rows()}
    assert documented == {slug: kind.status for slug, kind in PROBLEMS.items()}


def test_every_problem_is_documented_with_its_fields() -> None:
    documented = {slug.strip("`"): set(code_spans(re.sub(r"\(.*?\)", "", cell))) for _, slug, _, cell in error_rows()}
    found = fields_in_code()
    assert documented == {slug: found[slug] for slug in PROBLEMS}


@every_page
def test_every_test_and_module_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\btests/[\w/]+(?:\.py(?:::\w+)?)?", text):
        file, _, function = name.partition("::")
        assert (ROOT / file).exists(), name
        assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), name
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", without_fences(text)):
        assert any((folder / name).exists() for folder in (PACKAGE, ROOT)) or name == "tasks.py", name


@every_page
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text(encoding="utf-8")):
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_every_promise_links_to_a_command_that_shows_it() -> None:
    promises = re.findall(
        r"^\d+\. (?:\*\*)?\[.*?\]\((\S+?)#(\S+?)\)", section(page("README.md"), "How it behaves"), re.M
    )
    assert len(promises) == 10
    for target, anchor in promises:
        text = (README.parent / target).read_text(encoding="utf-8")
        (title,) = [title for title in titles(text) if anchors(f"## {title}") == {anchor}]
        assert fences(section(text, title), "console") or fences(section(text, title), "sh"), f"{target}#{anchor}"


@every_page
def test_every_make_target_and_variable_that_is_named_exists(path: Path) -> None:
    from tests.benchmark.__main__ import SCENARIOS

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in make_lines(path.read_text(encoding="utf-8")):
        for words in re.findall(r"\bmake ([a-z-]+(?: [a-z]+\b(?!=))?)", line):
            target, _, scenario = words.partition(" ")
            assert re.search(rf"^{target}:", makefile, re.M), line
            assert not scenario or scenario in SCENARIOS, line
        for name in re.findall(r"\b([A-Z]+)=", line) if "make" in line else ():
            assert f"$({name})" in makefile, line


def test_every_scenario_of_the_benchmark_is_documented() -> None:
    from tests.benchmark.__main__ import SCENARIOS

    (names,) = re.findall(r'SCENARIOS="([a-z ]+)"', page("performance.md"))
    assert names.split() == list(SCENARIOS)


def test_the_documented_load_plan_is_valid() -> None:
    from tests.benchmark.load.plan import LoadPlan

    (plan,) = re.findall(r"-m tests\.benchmark\.load '(.*)'", page("performance.md"))
    assert LoadPlan.from_json(plan).port == Settings().port


@pytest.mark.parametrize(
    "words",
    [
        f"the jobs ahead of it are expected to take at most {prefetch.MAX_AHEAD_S * 1e3:g} ms in all",
        f"Up to {prefetch.MAX_IN_SLOT - 1} jobs wait in a worker",
        f"is not parsed again ({known_heads.MAX_KNOWN:,} are remembered)",
        f"less urgent job that has waited for {job_queue.AGED_S:g} s",
        f"Bodies and results over {shared_bytes.LARGE_BYTES / (1 << 20):g} MiB",
    ],
)
def test_the_documented_numbers_are_those_of_the_code(words: str, everything: str) -> None:
    assert words in " ".join(everything.split())


def test_the_documented_layers_are_those_that_are_checked() -> None:
    found = re.search(r"`(cli > [^`]+)`", page("decisions.md"))
    assert found is not None
    configured = re.search(r"layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.DOTALL)
    assert configured is not None
    assert found[1].split(" > ") == [name for name in re.findall(r'"([^"]+)"', configured[1]) if name[0] != "("]


def error_rows() -> list[list[str]]:
    return rows(section(page("http-api.md"), "Errors"), "status")


def make_lines(text: str) -> Iterator[str]:
    """Yields the lines of shell, and code in sentences."""
    for block in fences(text, "sh"):
        yield from (line.partition(" #")[0] for line in block.splitlines())
    yield from code_spans(without_fences(text))


def fields_in_code() -> dict[str, set[str]]:
    """Returns the fields of each problem, by slug: those that it is raised with, and those of outcomes.

    `traceback` is documented above the table, because it is there only with `--debug`.
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
    """Returns the problem that `Problem("slug", …)` or `Fault(Reason.SLUG, …)` makes."""
    if not isinstance(call.func, ast.Name) or not call.args:
        return None
    first = call.args[0]
    if call.func.id == "Problem" and isinstance(first, ast.Constant):
        return str(first.value)
    if call.func.id == "Fault" and isinstance(first, ast.Attribute):
        return Reason[first.attr].value
    return None
