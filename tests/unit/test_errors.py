"""The errors: the tree that is drawn, and the text of each."""

from __future__ import annotations

import inspect
import re

import pytest

from offload import errors
from offload.errors import (
    BindError,
    FrameError,
    IllegalStep,
    OffloadError,
    SettingsError,
    StartError,
    SurroundingsError,
    TargetError,
    TaskDefinitionError,
)


def test_the_tree_that_is_drawn_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^((?:[│├└─ ]{4})+)(\w+(?:Error|Step))\b", errors.__doc__ or "", re.MULTILINE)
    classes = inspect.getmembers(errors, inspect.isclass)
    depths = {name: kind.__mro__.index(OffloadError) for name, kind in classes if kind.__module__ == errors.__name__}
    assert {name: len(lines) // 4 - 1 for lines, name in drawn} == depths


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SettingsError(["one fault", "another"]), "one fault\nanother"),
        (TargetError("a.py", "no such file or module"), "a.py: no such file or module"),
        (TargetError("", "two tasks have the same name"), "two tasks have the same name"),
        (TaskDefinitionError("double", "urgency must be an integer"), "task 'double': urgency must be an integer"),
        (SurroundingsError("load the tasks", "no memory"), "cannot load the tasks: no memory"),
        (BindError("127.0.0.1:80", "permission denied"), "cannot listen on 127.0.0.1:80: permission denied"),
        (IllegalStep(thing="job 5f", state="running", event="submit"), "job 5f is running: submit is not possible"),
        (FrameError("unknown kind 9"), "malformed frame on a worker's channel: unknown kind 9"),
        (StartError("out of memory"), "cannot start a worker: out of memory"),
    ],
)
def test_the_text_of_an_error(error: OffloadError, text: str) -> None:
    assert str(error) == text
