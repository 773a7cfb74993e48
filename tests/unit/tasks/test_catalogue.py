"""The service learns the tasks from the document that a describing process writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from offload.core.request import TaskLimits
from offload.errors import TargetError
from offload.tasks.catalogue import Catalogue, describe
from offload.tasks.definition.decorators import task
from offload.tasks.targets.loading import load, parse_target


class NoSchema(BaseModel):
    x: int

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> Any:
        raise RuntimeError("no schema today")


@task(timeout=5, memory="1MiB", retries=2, max_running=1, max_queued=4, urgency=0)
def measured(limit: int) -> list[int]:
    """All numbers below `limit`.

    Slowly.
    """
    return list(range(limit))


@task
def resize(image: bytes, width: int = 100) -> bytes:
    return image[:width]


@task
def opaque(x: NoSchema) -> Any:
    return x


TASKS = (measured, resize, opaque)


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue.from_json(describe(load([parse_target(function) for function in TASKS])), default_timeout_s=60.0)


def test_a_task_has_its_own_limits_or_the_default(catalogue: Catalogue) -> None:
    assert [info.limits for info in catalogue.values()] == [
        TaskLimits(
            name="measured",
            index=0,
            timeout_s=5.0,
            memory_bytes=1 << 20,
            retries=2,
            max_running=1,
            max_queued=4,
            urgency=0,
        ),
        TaskLimits(name="resize", index=1, timeout_s=60.0),
        TaskLimits(name="opaque", index=2, timeout_s=60.0),
    ]


def test_a_task_is_described_by_its_docstring_and_its_hints(catalogue: Catalogue) -> None:
    info = catalogue["measured"]
    assert info.description == "All numbers below `limit`.\n\nSlowly."
    assert info.arguments_schema["required"] == ["limit"]
    assert info.result_schema == {"type": "array", "items": {"type": "integer"}}


def test_the_kind_of_body_and_its_parameter_are_known(catalogue: Catalogue) -> None:
    assert [(info.body, info.body_parameter) for info in catalogue.values()] == [
        ("json", None),
        ("bytes", "image"),
        ("json", None),
    ]


def test_a_schema_that_cannot_be_made_is_empty(catalogue: Catalogue) -> None:
    assert catalogue["opaque"].arguments_schema == {}
    assert catalogue["opaque"].result_schema is None


def test_similar_task_names_are_found(catalogue: Catalogue) -> None:
    assert catalogue.close_matches("mesured") == ["measured"]
    assert catalogue.close_matches("x" * 1_000_000) == []
    assert "mesured" not in catalogue


@pytest.mark.parametrize("data", [b"", b"noise", b"[1]", b'[{"name": "x"}]', b"null", orjson.dumps(str(Path()))])
def test_an_invalid_catalogue_is_rejected(data: bytes) -> None:
    with pytest.raises(TargetError, match=r"^cannot read the list of tasks .*; a task file must write only to "):
        Catalogue.from_json(data, default_timeout_s=1.0)


def test_an_unreadable_catalogue_is_reported_with_the_remedy() -> None:
    with pytest.raises(TargetError) as caught:
        Catalogue.from_json(b"null", default_timeout_s=1.0)
    assert str(caught.value) == (
        "cannot read the list of tasks (TypeError: 'NoneType' object is not iterable); "
        "a task file must write only to descriptors that it opened"
    )
