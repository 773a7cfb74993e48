"""Imports the user's files and modules, and turns every error on the way into a TargetError with a sentence."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final, TypeGuard

from offload.errors import TargetError, TaskDefinitionError
from offload.tasks.served import name_of_text, specification
from offload.tasks.targets.module_names import is_found, module_name
from offload.tasks.targets.shadowing import check_imports, files_of, import_needed

# The directories that were added to this process's `sys.path`, in this order.
_added: Final[list[str]] = []


def import_file(file: str, *, named: str) -> ModuleType:
    """Returns the module in `file`, an absolute path, imported at most once. Raises TargetError.

    Adds the file's directory to `sys.path`, as `python file.py` does. Child processes of this process can import the
    module by its name, see `module_names`.
    """
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        from offload.tasks.targets.target_names import problem_with_file  # late: needed for mistakes only

        raise TargetError(named, problem_with_file(path, named) or "not a regular file")
    _add_to_path(str(path.parent))
    importlib.invalidate_caches()
    check_imports(path, str(path.parent), named=named)
    name = module_name(file)
    module = _run_import(lambda: importlib.import_module(name), named, file=file)
    if name == path.stem and not is_found(name, file):  # its own code has added a directory with another such module
        sys.path[:] = [str(path.parent), *(directory for directory in sys.path if directory != str(path.parent))]
    return module


def import_source(file: str, source: str, *, named: str) -> ModuleType:
    """Returns the module with the text `source` of a file that may not exist here, imported at most once.

    The name includes a digest of the text, because a process may outlive the service and get a new version. If the
    file's directory exists here, modules in it can be imported. Raises TargetError.
    """
    name = name_of_text(file, source)
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(str(Path(file).parent))
    loader = _SourceLoader(file, source)
    return _run_import(lambda: _execute(specification(name, file, loader), loader), named, file=file)


def import_module(name: str, directory: str | None, *, named: str) -> ModuleType:
    """Returns the module `name`, which may be in `directory`. Raises TargetError."""
    if directory is not None:
        _add_to_path(directory)
        for file in files_of(name, Path(directory)):
            check_imports(file, directory, named=named)
    importlib.invalidate_caches()
    try:
        return _run_import(lambda: importlib.import_module(name), named, module=name)
    except TargetError as error:
        if not _is_missing_module(error.__cause__, name):
            raise
        raise TargetError(named, _missing(error.__cause__, directory)) from error


def _add_to_path(directory: str) -> None:
    """Put the directory on `sys.path`, before what was there and after those that were added earlier.

    So a module that an earlier file imports, or the file itself, is not replaced by one of the same name.
    """
    if directory not in sys.path:
        import_needed(directory)
        earlier = [sys.path.index(added) for added in _added if added in sys.path]
        sys.path.insert(max(earlier, default=-1) + 1, directory)
        _added.append(directory)


class _SourceLoader(ExecutionLoader):
    """Loads a module from text, and gives tracebacks and `inspect` its lines."""

    def __init__(self, file: str, source: str) -> None:
        self._file = file
        self._source = source

    def get_filename(self, fullname: str) -> str:
        return self._file

    def get_source(self, fullname: str) -> str:
        return self._source


def _execute(spec: ModuleSpec, loader: _SourceLoader) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
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
        from offload.tasks.targets.import_errors import place_of  # late: needed for mistakes only

        raise error.at(place_of(error)) from error.__cause__
    except BaseException as error:  # the user's module may raise anything, SystemExit included
        from offload.tasks.targets.import_errors import Imported, problem_of, stack_of  # late, as above

        problem = problem_of(error, Imported(named=named, file=file, module=module))
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
