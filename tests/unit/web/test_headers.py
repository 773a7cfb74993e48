"""Parsing of request headers, valid and invalid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.web.answers.problems import Problem
from offload.web.requests import headers


@pytest.mark.parametrize(
    ("text", "urgency"),
    [
        ("u=0", 0),
        ("u=7", 7),
        ("u=1, i", 1),
        ("i, u=5", 5),
        ("i=?0 ,\tu=2", 2),
        ("u=4;a=b;c", 4),
        (' u=6 , x="a, u=1"', 6),
        ("u=1, u=2", 2),
        ("x=(1 2), u=2", 2),
        ("x=:YWI=:, u=2", 2),
        ("i", 3),
        ("", 3),
        ("u=8", 3),
        ("u=-1", 3),
        ("u=1.5", 3),
        ("u=?1", 3),
        ("u", 3),
        ('u="1"', 3),
        ("u=1,", 3),
        ("u=1 i", 3),
        ("U=1", 3),
        ("=1, u=1", 3),
        ("u=1, é", 3),
    ],
)
def test_a_priority_is_a_structured_field_or_is_ignored(text: str, urgency: int) -> None:
    assert headers.urgency(text) == urgency


@given(st.text())
def test_any_text_yields_an_urgency(text: str) -> None:
    assert headers.urgency(text) in range(8)


def test_a_long_priority_is_parsed_in_linear_time() -> None:
    assert headers.urgency("a;" * 4000 + "u=1, " * 1000) == 3


@pytest.mark.parametrize(
    ("text", "seconds"), [("2.5", 2.5), (" 1 ", 1.0), ("0.001", 0.001), ("999999999", 999999999.0)]
)
def test_a_budget_is_a_plain_number_of_seconds(text: str, seconds: float) -> None:
    assert headers.request_timeout_s([text]) == seconds


@given(st.text())
def test_a_budget_is_parsed_or_rejected(text: str) -> None:
    try:
        assert headers.request_timeout_s([text]) > 0
    except Problem as problem:
        assert problem.slug == "invalid-header"


@pytest.mark.parametrize("text", ["r-17", "a" * 128])
def test_a_request_id_is_kept_unchanged(text: str) -> None:
    assert headers.request_id(text) == text


@pytest.mark.parametrize("text", [None, "", "a" * 129, "a b", "a\tb", "é", "\udcff", "a\x00"])
def test_a_request_id_that_could_forge_a_log_line_is_ignored(text: str | None) -> None:
    assert headers.request_id(text) == ""


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("text", [TRACE, TRACE.replace("00-", "01-", 1), TRACE.replace("00-", "01-", 1) + "-later"])
def test_a_traceparent_of_this_or_a_later_version_is_accepted(text: str) -> None:
    assert headers.traceparent(text) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        TRACE.upper(),
        TRACE + "-later",
        TRACE + "x",
        TRACE[:-1],
        TRACE.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)
def test_an_invalid_traceparent_is_ignored(text: str | None) -> None:
    assert headers.traceparent(text) == ""
