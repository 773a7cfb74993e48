"""Says why a type hint cannot be used: which part of it, why, and what to do. Needed for mistakes only."""

from __future__ import annotations

import ast
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, ClassVar, Final

from offload.tasks.faults import exception_message, in_one_line, shortened

_MAX_REASON_LENGTH: Final = 600
_MAX_DEPTH: Final = 20
# Pydantic's advice for classes of its users, which does not apply to the hints of a function.
_ADVICE: Final = " Set `arbitrary_types_allowed"


def unresolved(annotation: object, what: str, error: Exception, module: str) -> str:
    """Returns the problem with an annotation that cannot be evaluated. `module` is that of the function."""
    reason = shortened(in_one_line(exception_message(error)), _MAX_REASON_LENGTH)
    problem = f"cannot resolve {annotation!r}, the annotation of {what}: "
    if not isinstance(error, NameError):
        return f"{problem}{reason}; correct it"
    if error.name in _names_for_type_checkers(module):
        return f"{problem}{error.name!r} is imported under TYPE_CHECKING only; import it outside of that block"
    return f"{problem}{reason}; define or import it at the top level of the module"


def unsupported(hints: Mapping[str, Any], error: Exception, check: Callable[[Any], object]) -> str:
    """Returns the problem with the first of `hints`, by parameter, for which `check` raises.

    `error` is what all of them together raised.
    """
    for name, hint in hints.items():
        found = _failure(hint, check)
        if found is not None:
            path, part, cause = found
            where = f", field {'.'.join(path)!r}" if path else ""
            return f"cannot validate {name}{where}: {_reason(part, cause)}"
    return f"cannot validate the parameters: {_reason(None, error)}"


def _failure(hint: Any, check: Callable[[Any], object], depth: int = 0) -> tuple[list[str], Any, Exception] | None:
    """Returns the fields that lead to the smallest part that cannot be validated, that part, and the exception."""
    try:
        check(hint)
    except Exception as error:
        for field, part in _parts(hint) if depth < _MAX_DEPTH else ():
            found = _failure(part, check, depth + 1)
            if found is not None:
                return field + found[0], *found[1:]
        return [], hint, error
    return None


def _parts(hint: Any) -> Iterator[tuple[list[str], Any]]:
    """Yields the parts of a hint, with the name of the field for those of a class."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        arguments = arguments[:1]
    for argument in arguments:
        if isinstance(argument, type) or typing.get_origin(argument) is not None:
            yield [], argument
    origin = typing.get_origin(hint) or hint
    if isinstance(origin, type) and _has_fields(origin):
        for name, annotation in _annotations(origin):
            yield [name], annotation


def _has_fields(hint: type) -> bool:
    config = getattr(hint, "model_config", None)
    if isinstance(config, dict):
        return not config.get("arbitrary_types_allowed")
    return is_dataclass(hint) or hasattr(hint, "__total__") or hasattr(hint, "_fields")


def _annotations(hint: type) -> Iterator[tuple[str, Any]]:
    for owner in reversed(hint.__mro__):
        if owner.__module__ == "pydantic.main":
            continue
        namespace = vars(sys.modules.get(owner.__module__, types))
        try:
            own = inspect.get_annotations(owner)
        except Exception:  # from Python 3.14 on, this evaluates them
            continue
        for name, annotation in own.items():
            holder = types.SimpleNamespace(__annotations__={"it": annotation})
            try:
                resolved = typing.get_type_hints(holder, globalns=dict(namespace), include_extras=True)["it"]
            except Exception:  # not resolved: pydantic says so for the class
                continue
            if typing.get_origin(resolved) is not ClassVar and resolved is not ClassVar:
                yield name, resolved


def _reason(part: Any, error: Exception) -> str:
    from pydantic import PydanticSchemaGenerationError  # late: `unresolved` needs no pydantic

    name = part.__qualname__ if isinstance(part, type) else repr(part).replace("typing.", "")
    reason, _, _ = in_one_line(exception_message(error)).partition(_ADVICE)
    if isinstance(error, NameError):
        return f"{reason}; define or import it at the top level of the module of {name}"
    if not isinstance(error, PydanticSchemaGenerationError):
        return f"{shortened(reason, _MAX_REASON_LENGTH).rstrip('.') or type(error).__name__}; correct the type"
    if typing.Protocol in getattr(part, "__bases__", ()):
        return f"{name} is a Protocol, which data cannot be checked against; use a dataclass or a pydantic model"
    return (
        f"pydantic does not support the type {shortened(name, _MAX_REASON_LENGTH)}; use JSON types, a dataclass or a "
        "pydantic model, and convert it in the task"
    )


def _names_for_type_checkers(module: str) -> set[str]:
    """Returns the names that a module imports under `if TYPE_CHECKING`."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError, ValueError):
        return set()
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {
        (alias.asname or alias.name).partition(".")[0]
        for block in blocks
        for node in block.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
