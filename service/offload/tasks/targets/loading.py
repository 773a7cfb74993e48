"""Parses targets, which name files, modules or functions, and loads their tasks.

Targets travel to other processes as JSON; tasks never do, so every process that runs them loads them. The service
imports this module but calls `load` only under the start method `fork`, so `load` imports pydantic late.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from offload.errors import TargetError, TaskDefinitionError
from offload.tasks.definition.decorators import TaskDefinition, definition_of, is_worker_start_hook
from offload.tasks.definition.wrapping import code_location, hidden_function, plain_function
from offload.tasks.targets.importing import import_file, import_module, import_source

if TYPE_CHECKING:
    from offload.tasks.signature import CompiledTask

# A file or module by name, a file by its path, or a function.
Named: TypeAlias = str | os.PathLike[str] | Callable[..., Any]

# Makes the context in which a target is imported.
Importing: TypeAlias = "Callable[[Target], AbstractContextManager[object]]"

_TOP_LEVEL_HINT: Final = "define the function at the top level of the module, where its name must still refer to it"
_EXAMPLE_HINT: Final = "write `from offload import task` and put `@task` above a function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something to serve: all tasks of a file or module, or one function.

    `named` is the user's own text. Either `file` (an absolute path) or `module` (a dotted name) is set. `function` is a
    qualified name in it; None means all tasks. `directory` is added to `sys.path` to find the module. `source` is the
    text of the file, for workers without it.
    """

    named: str
    file: str | None = None
    module: str | None = None
    function: str | None = None
    directory: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTask:
    """A task ready to be called. `index` is its position in the registry."""

    index: int
    definition: TaskDefinition
    compiled: CompiledTask

    @property
    def name(self) -> str:
        return self.definition.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The loaded tasks in the order of their indices, and the hooks in the order of their calls."""

    tasks: tuple[LoadedTask, ...]
    hooks: tuple[Callable[[], object], ...]


def parse_target(target: Named) -> Target:
    """Returns the target for a file, a module or a decorated function; `load` finds out whether it exists.

    Raises TargetError if it cannot be any of them.
    """
    if isinstance(target, (str, os.PathLike)):
        return _parse_text(os.fspath(target))
    if callable(target):
        return _parse_function(target)
    raise TargetError(repr(target)[:100], "a target must be a file, a module name or a function with `@task` above it")


def targets_to_json(targets: Iterable[Target]) -> list[dict[str, str | None]]:
    """Returns targets as JSON values, for another process."""
    return [asdict(target) for target in targets]


def targets_from_json(values: Iterable[Mapping[str, str | None]]) -> tuple[Target, ...]:
    """Reverse `targets_to_json`."""
    return tuple(Target(**value) for value in values)  # type: ignore[arg-type]  # `named` is never None


def load(targets: Sequence[Target], *, importing: Importing = nullcontext) -> Registry:
    """Import the targets, each in the context `importing`, and compile their tasks in this process.

    Tasks have the order of the targets and, within a target, of its namespace; a task found twice is loaded once.
    Raises TargetError for a target that cannot be imported, has no task or repeats a name, and TaskDefinitionError for
    a function that cannot be a task.
    """
    from offload.tasks.signature import CompiledTask  # late: it imports pydantic

    if not targets:
        raise TargetError("", "nothing to serve; name a file or a module that defines tasks")
    definitions: dict[str, TaskDefinition] = {}
    hooks: dict[Callable[[], object], None] = {}
    for target in targets:
        with importing(target):
            module = _import(target)
        for definition in _definitions_in(module, target):
            earlier = definitions.setdefault(definition.name, definition)
            if definition.replaced is not None:
                raise _duplicate_name(target, definition, code_location(definition.replaced))
            if not _is_same(earlier, definition):
                raise _duplicate_name(target, definition, _location(earlier))
        hooks.update(dict.fromkeys(value for value in vars(module).values() if is_worker_start_hook(value)))
    tasks = []
    for index, definition in enumerate(definitions.values()):
        try:
            tasks.append(LoadedTask(index=index, definition=definition, compiled=CompiledTask(definition)))
        except TaskDefinitionError as error:
            raise error.at(_location(definition)) from error.__cause__
    return Registry(tasks=tuple(tasks), hooks=tuple(hooks))


def is_of_main(target: Target) -> bool:
    """Returns whether this process's script serves a function of its own (under `spawn`, this process runs a copy)."""
    main_file = getattr(sys.modules["__main__"], "__file__", None)
    return target.function is not None and main_file is not None and os.path.realpath(main_file) == target.file


def _parse_text(text: str) -> Target:
    if not text.strip() or "\0" in text:
        raise TargetError(repr(text), "neither a file nor a module name")
    is_module_name = all(part.isidentifier() for part in text.split("."))
    path = Path(text).absolute()
    if text.endswith((".py", ".ipynb")) or path.is_file() or (path.exists() and not is_module_name):
        return Target(named=text, file=str(path))
    if is_module_name:
        return Target(named=text, module=text, directory=str(Path.cwd()))
    from offload.tasks.targets.target_names import problem_with_text  # late: needed for mistakes only

    raise TargetError(text, problem_with_text(text))


def _parse_function(function: Callable[..., Any]) -> Target:
    named = getattr(function, "__qualname__", None) or repr(function)[:100]
    if definition_of(function) is None:
        raise TargetError(named, "this function is not a task; put `@task` above it")
    module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or "<" in qualified:
        raise TargetError(named, "workers cannot find this function; define it at the top level of a module")
    if module != "__main__":
        return Target(named=named, module=module, function=qualified, directory=_root_of(sys.modules.get(module)))
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:  # started with `python -m`
        return Target(named=named, module=spec.name, function=qualified, directory=_root_of(main, spec.name))
    if file is None:
        raise TargetError(named, "workers cannot load a function from an interactive session; put it into a file")
    return Target(named=named, file=os.path.realpath(file), function=qualified)


def _root_of(module: ModuleType | None, name: str | None = None) -> str | None:
    """Returns the directory from which the module was imported: the parent of its outermost package."""
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return None
    path = Path(file).absolute()
    levels = (name or module.__name__).count(".") + (path.stem == "__init__")
    return str(path.parents[levels]) if levels < len(path.parents) else None


def _import(target: Target) -> ModuleType:
    if target.module is not None:
        return import_module(target.module, target.directory, named=target.named)
    if target.file is None:
        raise ValueError(f"{target!r} has neither file nor module")
    if target.source is not None:
        return import_source(target.file, target.source, named=target.named)
    if is_of_main(target):
        return sys.modules["__main__"]
    return import_file(target.file, named=target.named)


def _definitions_in(module: ModuleType, target: Target) -> Iterator[TaskDefinition]:
    if target.function is not None:
        value: object = module
        for part in target.function.split("."):
            value = inspect.getattr_static(value, part, None)
        values: Iterable[object] = [value]
    else:
        values = list(vars(module).values())
    is_empty = True
    for value in values:
        definition = definition_of(value)
        if definition is None:
            _check_not_hidden(value)
        if definition is not None and callable(value):
            is_empty = False
            # A decorator above @task copied the attributes of the function: call what the decorator returned.
            yield definition if definition.function is value else replace(definition, function=value)
    if is_empty:
        raise TargetError(target.named, _no_task_found(module))


def _no_task_found(module: ModuleType) -> str:
    from offload.tasks.targets.target_names import (  # late: needed for mistakes only
        decorated_line,
        package_without_tasks,
    )

    file, directories = getattr(module, "__file__", None), list(getattr(module, "__path__", ()))
    line = None if file is None else decorated_line(Path(file))
    if line is not None:
        return f"no task found, although line {line} has `@task`; {_TOP_LEVEL_HINT}"
    if directories:
        return f"no task found; {package_without_tasks(Path(directories[0]), module.__name__)}"
    return f"no task found; {_EXAMPLE_HINT}"


def _check_not_hidden(value: object) -> None:
    """Reject a wrapper that hides a task or a start hook, which would be missing silently."""
    hidden = hidden_function(value)
    if hidden is None:
        return
    function = hidden.function
    if definition_of(function) is not None or is_worker_start_hook(function):
        raise TaskDefinitionError(function.__name__, str(hidden)).at(code_location(function.__code__))


def _duplicate_name(target: Target, definition: TaskDefinition, earlier_location: str) -> TargetError:
    return TargetError(
        target.named,
        f"two tasks are named {definition.name!r}: {earlier_location} and {_location(definition)}; "
        "rename one with @task(name=…)",
    )


def _is_same(one: TaskDefinition, other: TaskDefinition) -> bool:
    """Returns whether both are one function: under two names, or from a file imported under two names."""
    if one.function is other.function:
        return True
    code, other_code = _code_of(one), _code_of(other)
    is_one_source = code is not None and code == other_code and code.co_filename == other_code.co_filename
    return is_one_source and one.function.__module__ != other.function.__module__


def _code_of(definition: TaskDefinition) -> Any:
    return getattr(inspect.unwrap(definition.function), "__code__", None)


def _location(definition: TaskDefinition) -> str:
    plain = plain_function(definition.function)
    if plain is None:
        return f"in {getattr(definition.function, '__module__', 'an unknown module')}"
    return code_location(plain.__code__)
