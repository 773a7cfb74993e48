"""Imports the user's files and modules, and turns every error on the way into a TargetError with a sentence."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Callable
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from offload.errors import TargetError, TaskDefinitionError
from offload.tasks.faults import exception_message, exception_name, shortened

_MAX_MESSAGE_LENGTH: Final = 500


def import_file(file: str, *, named: str) -> ModuleType:
    """Returns the module in `file`, an absolute path, imported at most once. Raises TargetError.

    Adds the file's directory to `sys.path`, as `python file.py` does. The module has the same name in every process and
    is in `sys.modules` before its code runs: pickle, dataclasses and forward references need both.
    """
    path = Path(file)
    if path.is_dir():
        raise TargetError(named, "this is a directory; name a file in it, or a module such as package.module")
    if not path.exists():
        raise TargetError(named, "no such file")
    if path.suffix != ".py":
        raise TargetError(named, "not a Python file; the name must end in .py")
    name = module_name(file)
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(str(path.parent))
    return _run_import(lambda: _execute(name, importlib.util.spec_from_file_location(name, file)), named)


def import_source(file: str, source: str, *, named: str) -> ModuleType:
    """Returns the module with the text `source` of a file that may not exist here, imported at most once.

    The name includes a digest of the text, because a process may outlive the service and get a new version. If the
    file's directory exists here, modules in it can be imported. Raises TargetError.
    """
    name = f"{module_name(file)}_{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    _add_to_path(str(Path(file).parent))
    return _run_import(
        lambda: _execute(name, importlib.util.spec_from_loader(name, _SourceLoader(file, source))), named
    )


def import_module(name: str, directory: str | None, *, named: str) -> ModuleType:
    """Returns the module `name`, which may be in `directory`. Raises TargetError."""
    if directory is not None:
        _add_to_path(directory)
    importlib.invalidate_caches()
    try:
        return _run_import(lambda: importlib.import_module(name), named)
    except TargetError as error:
        if not _is_missing_module(error.__cause__, name):
            raise
        where = f"it is neither installed nor in {directory}" if directory is not None else "it is not installed"
        raise TargetError(named, f"no such module; {where}") from error


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


def _run_import(do_import: Callable[[], ModuleType], named: str) -> ModuleType:
    """Run the import; any exception becomes a TargetError, except a TaskDefinitionError, which explains itself."""
    try:
        return do_import()
    except (KeyboardInterrupt, TaskDefinitionError):
        raise
    except BaseException as error:  # the user's module may raise anything, SystemExit included
        raise TargetError(named, _describe(error)) from error


def _describe(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        where = f" in {Path(error.filename).name}" if error.filename else ""
        line = f", line {error.lineno}" if error.lineno else ""
        return f"syntax error{where}{line}: {shortened(str(error.msg), _MAX_MESSAGE_LENGTH)}"
    message = shortened(exception_message(error), _MAX_MESSAGE_LENGTH)
    text = f"{exception_name(error)}: {message}" if message else exception_name(error)
    if isinstance(error, SystemExit):
        return f"{_line_prefix(error)}the file ended the program while it was imported ({text})"
    return f"{_line_prefix(error)}{text}"


def _is_missing_module(error: BaseException | None, module: str) -> bool:
    """Returns whether the module itself or one of its packages is missing, not a module that it imports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return module == error.name or module.startswith(f"{error.name}.")


def _line_prefix(error: BaseException) -> str:
    """Returns "line 3: ", the line of the user's file that was running, or "" if unknown."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_machinery(frame.f_code.co_filename)
    ]
    if not frames:
        return ""
    outermost = frames[0][0]
    line = [line for file, line in frames if file == outermost][-1]
    return f"line {line}: "


def _is_machinery(file: str) -> bool:
    return file.startswith("<frozen ") or file in (__file__, importlib.__file__)
