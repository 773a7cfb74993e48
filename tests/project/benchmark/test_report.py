"""The report of a run, and the errors of the command line."""

from __future__ import annotations

import orjson
import pytest

from tests.benchmark import chart, goals, report
from tests.benchmark.__main__ import main
from tests.benchmark.environments import ROOT
from tests.benchmark.figures import Percentiles, Spread
from tests.benchmark.report import Column

pytestmark = pytest.mark.unit


def test_a_table_is_markdown_with_aligned_columns() -> None:
    assert report.table(("system", "p50"), [["bare", "1"], ["executor", "22"]]) == (
        "| system   | p50 |\n"
        "| -------- | --- |\n"
        "| bare     | 1   |\n"
        "| executor | 22  |"
    )  # fmt: skip


def test_a_row_has_the_median_of_its_rounds_or_what_the_column_says() -> None:
    columns = [Column[float]("median", lambda one: one), Column[float]("sum", lambda one: one, "{:g}".format, sum)]
    made = report.rounds_table(("system",), columns, [(("bare",), [1.0, 5.0, 2.0])])
    assert made.splitlines()[-1].split() == ["|", "bare", "|", "2.00", "|", "8", "|"]


def test_the_maximum_of_a_latency_is_that_of_all_rounds() -> None:
    columns = report.latency_columns(Percentiles.of)
    made = report.rounds_table(("system",), columns, [(("bare",), [[1.0], [9.0], [2.0, 2.0]])])
    assert [cell.strip() for cell in made.splitlines()[-1].split("|")[1:-1]] == ["bare", "4", *["2.00"] * 3, "9.00"]


@pytest.mark.parametrize(("value", "text"), [(12_345.6, "12,346"), (123.45, "123.5"), (1.234, "1.23"), (0, "0.00")])
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_a_ratio_shows_its_median_and_range() -> None:
    assert report.ratio(Spread(median=1.8, lowest=1.75, highest=2)) == "1.80 (1.75 to 2.00)"
    assert report.ratio(None) == "–"


def test_the_machine_is_named() -> None:
    facts = report.machine()
    assert facts["cores"] >= 1
    assert f"Python {facts['python']}" in report.machine_line(facts)


def test_names_of_lines_that_end_at_the_same_place_do_not_overlap() -> None:
    lines = {name: [1.0, 0.5] for name in "abc"}
    svg = chart.line_chart(title="<title>", x_title="x", xs=(2, 5), lines=lines)
    names = [line for line in svg.splitlines() if line.startswith("<text x='580.0'")]
    assert len({line.split("'")[3] for line in names}) == 3
    assert "&lt;title&gt;" in svg


def test_each_goal_has_a_figure_of_its_own() -> None:
    assert len({(goal.scenario, goal.figure) for goal in goals.GOALS}) == len(goals.GOALS)


@pytest.mark.parametrize(
    ("bound", "met"), [(goals.AT_MOST, [True, True, False]), (goals.AT_LEAST, [False, True, True])]
)
def test_a_goal_is_met_on_its_side_of_the_limit(bound: str, met: list[bool]) -> None:
    goal = goals.Goal("x", "jobs", "x", bound, 1.0)
    assert [goal.is_met(measured) for measured in (0.9, 1.0, 1.1)] == met


def test_the_table_of_goals_shows_what_was_not_measured() -> None:
    found = goals.verdicts(
        {
            "idle": {"start_s": Spread(median=0.45, lowest=0.4, highest=0.7)},
            "jobs": {"noop_jobs_per_s_to_bare": Spread(median=0.9, lowest=0.9, highest=0.9)},
        }
    )
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:5]]
        for line in goals.table(found).splitlines()
    }
    assert rows["start to ready with example tasks, s"] == ["at most 0.5", "0.45 (0.40 to 0.70)", "yes"]
    assert rows["no-op jobs/s / bare handler"] == ["at least 1.5", "0.90 (0.90 to 0.90)", "no"]
    assert rows["CPU per no-op job / mosec"] == ["at most 0.5", "–", "not measured"]
    assert orjson.dumps(found)


def test_the_goals_are_those_of_the_documentation() -> None:
    page = (ROOT / "service" / "docs" / "performance.md").read_text(encoding="utf-8")
    _, _, rows = page.partition("| figure | goal | measured |\n| --- | --- | --- |\n")
    documented = [tuple(row.split(" | ")[:2]) for row in rows.partition("\n\n")[0].removeprefix("| ").split("\n| ")]
    assert documented == [(goal.what, f"{goal.bound} {goal.limit:g}") for goal in goals.GOALS]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["jbos"], "unknown scenario 'jbos'; choose from jobs, health, recover"),
        (["--rounds", "0"], "'0' is not a whole number from 1 to 100"),
        (["--rounds", "1.5"], "'1.5' is not a whole number from 1 to 100"),
        (["--systems", "bare,bar"], "unknown system 'bar'; choose from bare, pool, executor, offload, fastapi"),
        (["--seconds", "nan"], "'nan' is not a number from 0.01 to 600"),
    ],
)
def test_a_mistake_on_the_command_line_is_reported(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
