"""Imports the user's files and modules, and turns every error on the way into a TargetError with a sentence."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from offload.errors import TargetError, TaskDefinitionError


def import_file(file: str, *, named: str) -> ModuleType:
    """Returns the module in `file`, an absolute path, imported at most once. Raises TargetError.

    Adds the file's directory to `sys.path`, as `python file.py` does. The module has the same name in every process and
    is in `sys.modules` before its code runs: pickle, dataclasses and forward references need both.
    """
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        from offload.tasks.target_names import problem_with_file  # late: needed for mistakes only

        raise TargetError(named, problem_with_file(path, named) or "not a regular file")
    name = module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, file)
    return _run_import(lambda: _execute(name, spec), named, file=file)


def import_source(file: str, source: str, *, named: str) -> ModuleType:
    """Returns the module with the text `source` of a file that may not exist here, imported at most once.

    The name includes a digest of the text, because a process may outlive the service and get a new version. If the
    file's directory exists here, modules in it can be imported. Raises TargetError.
    """
    name = f"{module_name(file)}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(str(Path(file).parent))
    spec = importlib.util.spec_from_loader(name, _SourceLoader(file, source))
    return _run_import(lambda: _execute(name, spec), named, file=file)


def import_module(name: str, directory: str | None, *, named: str) -> ModuleType:
    """Returns the module `name`, which may be in `directory`. Raises TargetError."""
    if directory is not None:
        _add_to_path(directory)
    importlib.invalidate_caches()
    try:
        return _run_import(lambda: importlib.import_module(name), named, module=name)
    except TargetError as error:
        if not _is_missing_module(error.__cause__, name):
            raise
        raise TargetError(named, _missing(error.__cause__, directory)) from error


def module_name(file: str) -> str:
    """Returns a readable and unique name for the module in `file`."""
    real = os.path.realpath(file)
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return f"offload_file_{digest}_{re.sub(r'[^0-9A-Za-z_]', '_', Path(real).stem)}"


def _add_to_path(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


class _SourceLoader(ExecutionLoader):
    """Loads a module from text, and gives tracebacks and `inspect` its lines."""

    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._source = source

    def get_filename(self, fullname: str) -> str:
        return self._file

    def get_source(self, fullname: str) -> str:
        return self._source


def _execute(name: str, spec: ModuleSpec | None) -> ModuleType:
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _run_import(
    do_import: Callable[[], ModuleType], named: str, *, file: str | None = None, module: str | None = None
) -> ModuleType:
    """Run the import; any exception becomes a TargetError, except a TaskDefinitionError, which explains itself."""
    try:
        return do_import()
    except KeyboardInterrupt:
        raise
    except TaskDefinitionError as error:
        from offload.tasks.import_errors import place_of  # late: needed for mistakes only

        raise error.at(place_of(error)) from error.__cause__
    except BaseException as error:  # the user's module may raise anything, SystemExit included
        from offload.tasks.import_errors import Imported, describe, stack_of  # late, as above

        problem = describe(error, Imported(named=named, file=file, module=module))
        raise TargetError(named, problem, stack=stack_of(error)) from error


def _is_missing_module(error: BaseException | None, module: str) -> TypeGuard[ModuleNotFoundError]:
    """Returns whether the module itself or one of its packages is missing, not a module that it imports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return module == error.name or module.startswith(f"{error.name}.")


def _missing(error: ModuleNotFoundError, directory: str | None) -> str:
    parent, _, name = (error.name or "").rpartition(".")
    if parent and not hasattr(sys.modules.get(parent), "__path__"):
        return f"{parent!r} is a module, not a package; name it without `.{name}`: all of its tasks are served"
    where = f"it is neither installed nor in {directory}" if directory is not None else "it is not installed"
    return f"no such module; {where}"
