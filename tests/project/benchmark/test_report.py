"""What a run reports, and what the command says to a mistake."""

from __future__ import annotations

import orjson
import pytest

from tests.benchmark import jobs, report
from tests.benchmark.__main__ import main
from tests.benchmark.figures import Spread
from tests.benchmark.options import Options
from tests.benchmark.systems import BY_NAME


def test_a_short_run_of_one_system_reports_each_of_its_loads() -> None:
    made = jobs.run(Options(rounds=1, seconds=0.3, systems=(BY_NAME["bare"],)))
    assert list(made.data) == ["noop", "unloaded"]
    for workload in made.data.values():
        (measurement,) = workload["measurements"]["bare"]
        assert list(measurement["load"]["statuses"]) == ["200"]
        assert measurement["load"]["lost"] == 0
        assert measurement["cpu_us_per_job"] >= 0
    assert "### No-op jobs, 64 connections\n\n| system " in made.markdown()
    assert "| bare " in made.markdown()
    assert orjson.dumps(made.data)


def test_a_table_is_markdown_with_aligned_columns() -> None:
    assert report.table(("system", "p50"), [["bare", "1"], ["executor", "22"]]) == (
        "| system   | p50 |\n"
        "| -------- | --- |\n"
        "| bare     | 1   |\n"
        "| executor | 22  |"
    )  # fmt: skip


@pytest.mark.parametrize(("value", "text"), [(12_345.6, "12,346"), (123.45, "123.5"), (1.234, "1.23"), (0, "0.00")])
def test_numbers_have_as_many_digits_as_they_are_worth(value: float, text: str) -> None:
    assert report.number(value) == text


def test_a_ratio_shows_its_median_and_range() -> None:
    assert report.ratio(Spread(median=1.8, lowest=1.75, highest=2)) == "1.80 (1.75 to 2.00)"
    assert report.ratio(None) == "–"


def test_the_machine_is_named() -> None:
    facts = report.machine()
    assert facts["cores"] >= 1
    assert f"Python {facts['python']}" in report.machine_line(facts)
    assert "load generator" in report.machine_line(facts)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["jbos"], "there is no scenario 'jbos'; there are jobs, health, recover"),
        (["--rounds", "0"], "'0' is not a whole number from 1 to 100"),
        (["--systems", "bare,bar"], "there is no system 'bar'; there are bare, pool, executor, offload, fastapi"),
        (["--seconds", "nan"], "'nan' is not a number of seconds above 0, up to 600"),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_a_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
