"""The decorators `task` and `on_worker_start`, and the checks of their arguments.

A decorator attaches a record to the function and returns the function itself; the loader finds the records in the
module's namespace, without a registry. Every task file imports this module, so it imports very little.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import CodeType
from typing import Any, Final, TypeVar, overload

from offload.core.request import DEFAULT_URGENCY, URGENCIES
from offload.errors import TaskDefinitionError
from offload.settings.kinds import parse_size, shown
from offload.tasks.definition.wrapping import hidden_function, lowest, plain_function

# The attempt's number travels to the worker in one byte.
MAX_RETRIES: Final = 100
MAX_LIMIT: Final = 1_000_000  # the same as for the service's queue
MAX_NAME_LENGTH: Final = 100
_MAX_TIMEOUT_S: Final = 30 * 24 * 3600.0  # 30 days, the same as for the service's default

# A decorator that returns None must not look like `@task()`.
_NOT_GIVEN: Final[Any] = object()

_DEFINITION: Final = "__offload_task__"
_HOOK: Final = "__offload_on_worker_start__"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefinition:
    """The options of a task.

    `timeout_s` limits the run time, in seconds; None means the service's default. `memory_bytes` limits the peak
    resident memory; None means no limit. `retries` is how often a job whose worker died is tried again. `max_running`
    and `max_queued` limit how many jobs of the task run and wait at once; 0 means no limit. `urgency` applies to jobs
    whose caller sends no priority.

    `replaced` is the code of an earlier task of the same name that this definition removed from the module's namespace,
    or None. `module_spec` is the module's `__spec__`, which is new after each reload.
    """

    function: Callable[..., Any]
    name: str
    timeout_s: float | None = None
    memory_bytes: int | None = None
    retries: int = 0
    max_running: int = 0
    max_queued: int = 0
    urgency: int = DEFAULT_URGENCY
    replaced: CodeType | None = field(default=None, compare=False)
    module_spec: object = field(default=None, compare=False, repr=False)


@overload
def task(function: F, /) -> F: ...
@overload
def task(
    *,
    name: str | None = None,
    timeout: float | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    max_running: int | None = None,
    max_queued: int | None = None,
    urgency: int = DEFAULT_URGENCY,
) -> Callable[[F], F]: ...
def task(
    function: F = _NOT_GIVEN,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    max_running: int | None = None,
    max_queued: int | None = None,
    urgency: int = DEFAULT_URGENCY,
) -> F | Callable[[F], F]:
    """Make a plain function a task: `@task` or `@task(timeout=5)`. Returns the function unchanged.

    `name`: the task's name in URLs; 1 to 100 letters, digits, `_`, `-` and `.`; default: the function's name.
    `timeout`: limit on the run time in seconds, above 0 and at most 30 days; default: the service's.
    `memory`: limit on the worker's peak memory, in bytes or as text such as "512MB" or "2GiB"; default: no limit.
    `retries`: how often a job whose worker died is tried again, 0 to 100.
    `max_running`, `max_queued`: how many of its jobs run and wait at once; default: no limit.
    `urgency`: urgency of a job whose caller sends no `Priority`, 0 (most urgent) to 7.

    Raises TaskDefinitionError for an unsupported function or a value out of range.
    """

    def attach(function: F) -> F:
        named = name if isinstance(name, str) else _name_of(function)
        _check_callable(function, named)
        _check_wrapper(function, name)
        checked_name = _checked_name(name, function)
        definition = TaskDefinition(
            function=function,
            name=checked_name,
            timeout_s=_checked_timeout_s(timeout, named),
            memory_bytes=_checked_memory_bytes(memory, named),
            retries=_checked_int("retries", retries, 0, MAX_RETRIES, named),
            max_running=_limit("max_running", max_running, named),
            max_queued=_limit("max_queued", max_queued, named),
            urgency=_checked_int("urgency", urgency, 0, URGENCIES - 1, named),
            replaced=_replaced_task(function, checked_name),
            module_spec=_namespace_of(function).get("__spec__"),
        )
        return _mark(function, _DEFINITION, definition, named)

    return attach if function is _NOT_GIVEN else attach(function)


def on_worker_start(function: F) -> F:
    """Make each worker call this function once before it takes jobs, for example to load a model.

    The function takes no arguments. If it raises, the worker does not start. Raises TaskDefinitionError if it cannot be
    called without arguments.
    """
    named = _name_of(function)
    _check_callable(function, named)
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise TaskDefinitionError(named, "an @on_worker_start function must be callable without arguments") from None
    except ValueError:
        pass  # written in C, without a readable signature: the call in the worker decides
    return _mark(function, _HOOK, True, named)


def definition_of(value: object) -> TaskDefinition | None:
    """Returns the record that `@task` attached to `value`, or None."""
    definition = _attached(value, _DEFINITION)
    return definition if isinstance(definition, TaskDefinition) else None


def is_worker_start_hook(value: object) -> bool:
    return _attached(value, _HOOK) is True


def _replaced_task(function: Callable[..., Any], name: str) -> CodeType | None:
    """Returns the code of the task named `name` that the definition of `function` is about to replace, or None.

    Imported tasks do not count, nor do tasks from before a reload, which runs the module again in the same namespace:
    both have another module spec.
    """
    namespace = _namespace_of(function)
    earlier = definition_of(namespace.get(_name_of(function)))
    if earlier is None or earlier.name != name or earlier.module_spec is not namespace.get("__spec__"):
        return None
    original = inspect.unwrap(earlier.function)
    return None if original is inspect.unwrap(function) else getattr(original, "__code__", None)


def _namespace_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the globals of the function below all wrappers; empty if it is not written in Python."""
    original = plain_function(function)
    return {} if original is None else original.__globals__


def _attached(value: object, attribute: str) -> object:
    # Not getattr: a lazy proxy in the user's module may return or raise anything.
    return inspect.getattr_static(value, attribute, None) if callable(value) else None


def _mark(function: F, attribute: str, value: object, named: str) -> F:
    try:
        setattr(function, attribute, value)
    except (AttributeError, TypeError):
        raise TaskDefinitionError(named, "this is not a plain function; wrap it in one defined with `def`") from None
    return function


def _name_of(function: object) -> str:
    name = getattr(function, "__name__", None)
    if isinstance(name, str):
        return name
    # Without the address in memory that `repr` shows.
    return shown(function) if isinstance(function, (int, float)) else f"{type(function).__name__} object"


def _check_callable(function: object, named: str) -> None:
    if isinstance(function, str):
        raise TaskDefinitionError(named, f"pass a name as @task(name={function!r})")
    if function is None:
        raise TaskDefinitionError(named, "a decorator below returned None; it must return the function")
    if isinstance(function, (staticmethod, classmethod, property)) or _is_method(function):
        raise TaskDefinitionError(
            named,
            "methods are not supported because a job has no object to call them on; define a function at the top "
            "level of a module, which may call the method",
        )
    if inspect.isclass(function):
        raise TaskDefinitionError(
            function.__name__, "classes are not supported; put the decorator above a function that makes the object"
        )
    if not callable(function):
        raise TaskDefinitionError(
            named, f"only functions are supported, not {type(function).__name__} objects; use `def`"
        )
    _check_kind(plain_function(function), named)


def _check_kind(called: object, named: str) -> None:
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise TaskDefinitionError(
            named,
            "`async def` is not supported because a worker runs one job at a time; use a plain `def`, which may call "
            "asyncio.run(…)",
        )
    if inspect.isgeneratorfunction(called):
        raise TaskDefinitionError(named, "generators are not supported; return the whole result instead of `yield`")


def _check_wrapper(function: object, name: object) -> None:
    """Reject what a decorator without `functools.wraps` returned: it has lost the function's name and parameters.

    A wrapper that was named and has parameters of its own is meant as it is.
    """
    hidden = hidden_function(function)
    if hidden is None or hasattr(hidden.wrapper, "__signature__"):
        return
    _check_kind(hidden.function, hidden.function.__name__)
    has_own_name = name is not None or getattr(hidden.wrapper, "__name__", None) == hidden.function.__name__
    if hidden.takes_anything or not has_own_name:
        raise TaskDefinitionError(hidden.function.__name__, str(hidden))


def _is_method(function: object) -> bool:
    """Returns whether it is defined directly in a class: "Model.predict", but not "make.<locals>.predict".

    A partial does not count: it may have been given the object.
    """
    if isinstance(function, partial):
        return False
    below = lowest(function)
    if inspect.ismethod(below):
        return True
    outer, _, _ = getattr(below, "__qualname__", "").rpartition(".")
    return inspect.isfunction(below) and bool(outer) and not outer.endswith("<locals>")


def _checked_name(name: str | None, function: object) -> str:
    if name is None:
        name = _name_of(function)
        if name == "<lambda>" or not isinstance(getattr(function, "__name__", None), str):
            raise TaskDefinitionError(name, "the function has no name; set one with @task(name=…)")
    if not isinstance(name, str):
        raise TaskDefinitionError(_name_of(function), f"name must be a string, not {shown(name)}")
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name) or not name.strip("."):
        raise TaskDefinitionError(
            name[:MAX_NAME_LENGTH],
            f"a task name has 1 to {MAX_NAME_LENGTH} ASCII letters, digits, '_', '-' or '.', and more than dots; "
            "set another with @task(name=…)",
        )
    return name


def _checked_timeout_s(timeout: Any, named: str) -> float | None:
    if timeout is None:
        return None
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout <= _MAX_TIMEOUT_S:  # NaN fails the comparison too
        raise TaskDefinitionError(
            named, f"timeout must be a number of seconds above 0 and at most {_MAX_TIMEOUT_S:.0f}, not {shown(timeout)}"
        )
    return float(timeout)


def _checked_memory_bytes(memory: object, named: str) -> int | None:
    if memory is None:
        return None
    size_bytes = 0
    if isinstance(memory, int) and not isinstance(memory, bool):
        size_bytes = memory
    elif isinstance(memory, str):
        with suppress(ValueError):
            size_bytes = parse_size(memory)
    if size_bytes <= 0:
        raise TaskDefinitionError(
            named, f'memory must be a number of bytes above 0 or a size such as "512MB" or "2GiB", not {shown(memory)}'
        )
    return size_bytes


def _limit(name: str, value: object, named: str) -> int:
    """Returns a number of jobs; 0, for no limit, if the user gave None."""
    return 0 if value is None else _checked_int(name, value, 1, MAX_LIMIT, named)


def _checked_int(name: str, value: object, least: int, most: int, named: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise TaskDefinitionError(named, f"{name} must be an integer from {least} to {most}, not {shown(value)}")
    return value
