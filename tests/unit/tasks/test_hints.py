"""Type hints that cannot be used: the message names the part, the reason and the remedy."""

from __future__ import annotations

import pytest

from offload.errors import TaskDefinitionError
from offload.tasks.targets.loading import load, parse_target
from tests.unit.tasks.conftest import WriteFile

HEAD = """
from __future__ import annotations

import dataclasses
import socket
from typing import TYPE_CHECKING, Annotated, Any, Awaitable, ClassVar, Generic, NamedTuple, ParamSpec, Protocol, TypeVar

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from offload.tasks.definition.decorators import task

if TYPE_CHECKING:
    import decimal
    from collections.abc import Sequence

T = TypeVar("T")
P = ParamSpec("P")

class Opaque: ...

class Box(Generic[T]): ...

class Speaks(Protocol):
    def speak(self) -> str: ...

@dataclasses.dataclass
class Inner:
    kind: ClassVar[Opaque]
    ok: int
    deep: list[Opaque]

class Middle(TypedDict):
    inner: dict[str, Inner]

@dataclasses.dataclass
class Outer:
    middle: list[Middle]

class Pair(NamedTuple):
    left: int
    right: Opaque

class Broken(BaseModel):
    part: Nowhere

class Left(BaseModel):
    kind: int

class Right(BaseModel):
    kind: int

class Lenient(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    part: Opaque

"""
CONVERT = "use JSON types, a dataclass or a pydantic model, and convert it in the task"


@pytest.mark.parametrize(
    ("hint", "problem"),
    [
        (
            "Sequence[int]",
            "cannot resolve 'Sequence[int]', the annotation of parameter 'x': 'Sequence' is imported under "
            "TYPE_CHECKING only; import it outside of that block",
        ),
        (
            "list[decimal.Decimal]",
            "cannot resolve 'list[decimal.Decimal]', the annotation of parameter 'x': 'decimal' is imported under "
            "TYPE_CHECKING only; import it outside of that block",
        ),
        (
            "Later | None",
            "cannot resolve 'Later | None', the annotation of parameter 'x': name 'Later' is not defined; define or "
            "import it at the top level of the module",
        ),
        (
            "dataclasses.Missing",
            "cannot resolve 'dataclasses.Missing', the annotation of parameter 'x': module 'dataclasses' has no "
            "attribute 'Missing'; correct it",
        ),
        ("Opaque", f"cannot validate parameter 'x': pydantic does not support the type Opaque; {CONVERT}"),
        (
            "dict[str, list[Opaque]]",
            f"cannot validate parameter 'x': pydantic does not support the type Opaque; {CONVERT}",
        ),
        ("int | Opaque", f"cannot validate parameter 'x': pydantic does not support the type Opaque; {CONVERT}"),
        ("socket.socket", f"cannot validate parameter 'x': pydantic does not support the type socket; {CONVERT}"),
        (
            "Awaitable[int]",
            f"cannot validate parameter 'x': pydantic does not support the type Awaitable[int]; {CONVERT}",
        ),
        ("P.args", f"cannot validate parameter 'x': pydantic does not support the type P.args; {CONVERT}"),
        (
            "Annotated[list[Opaque], Field(max_length=3)]",
            f"cannot validate parameter 'x': pydantic does not support the type Opaque; {CONVERT}",
        ),
        (
            "list[Outer]",
            "cannot validate parameter 'x', field 'middle.inner.deep': pydantic does not support the type Opaque; "
            f"{CONVERT}",
        ),
        (
            "Pair",
            f"cannot validate parameter 'x', field 'right': pydantic does not support the type Opaque; {CONVERT}",
        ),
        (
            "Speaks",
            "cannot validate parameter 'x': Speaks is a Protocol, which data cannot be checked against; use a "
            "dataclass or a pydantic model",
        ),
        (
            "dict[str, Broken]",
            "cannot validate parameter 'x': name 'Nowhere' is not defined; define or import it at the top level of "
            "the module of Broken",
        ),
        (
            "Annotated[str, Field(pattern='(')]",
            "cannot validate parameter 'x': Error building \"str\" validator: SchemaError: regex parse error: ( ^ "
            "error: unclosed group; correct the type",
        ),
        (
            "Annotated[Left | Right, Field(discriminator='kind')]",
            "cannot validate parameter 'x': Model 'Left' needs field 'kind' to be of type `Literal`; correct the type",
        ),
    ],
)
def test_a_hint_that_cannot_be_used_is_reported(write_file: WriteFile, hint: str, problem: str) -> None:
    assert problem_with(write_file, f"def run(y: int, x: {hint}): ...") == problem


def test_extra_arguments_are_reported_as_such(write_file: WriteFile) -> None:
    assert problem_with(write_file, "def run(y: int, **more: Opaque): ...") == (
        f"cannot validate the extra arguments: pydantic does not support the type Opaque; {CONVERT}"
    )


@pytest.mark.parametrize("hint", ["Lenient", "list[Left | None]", "Box[int] | Any", "'Later'"])
def test_other_hints_are_accepted(write_file: WriteFile, hint: str) -> None:
    later = "@dataclasses.dataclass\nclass Later:\n    before: Later | None\n"
    text = f"{HEAD}\nBox = list\n@task\ndef run(x: {hint}): ...\n\n{later}"
    assert len(load([parse_target(write_file("tasks.py", text))]).tasks) == 1


def problem_with(write_file: WriteFile, definition: str) -> str:
    with pytest.raises(TaskDefinitionError) as caught:
        load([parse_target(write_file("tasks.py", f"{HEAD}@task\n{definition}\n"))])
    assert "tasks.py:" in str(caught.value)
    return caught.value.problem
