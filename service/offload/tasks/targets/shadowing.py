"""Files beside the user's tasks that have the name of a module which this package needs, such as `json.py`.

A directory that is added to `sys.path` comes first, as that of a program does. So what this package may import later is
imported before, if the directory has any such name. From then on the name means the module that is loaded: a file that
imports it would get another module than the one beside it, and is refused.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from offload.errors import TargetError

# Packages whose modules this process may import while it runs jobs.
_OWN: Final = ("offload.tasks", "offload.wire", "offload.worker")
# Libraries that are imported late, and those that are looked up in `sys.modules` or by orjson.
_SMALL: Final = (
    *("backports", "backports.zstd", "compression.zstd"),
    *("multipart", "pydantic", "pydantic.json_schema", "pydantic.networks", "pydantic.types"),
)
_LARGE: Final = ("numpy", "pandas")
# Modules of the standard library that others import at their first use.
_STANDARD: Final = (
    *("_strptime", "ast", "difflib", "email.message", "gzip", "linecache", "random", "shutil"),
    *("subprocess", "tempfile", "tokenize", "traceback", "tracemalloc", "uuid", "zlib", "zoneinfo"),
)
# These hide a file in any program: the interpreter does not search the path for them.
_FIXED: Final = ("built-in", "frozen")


def import_needed(directory: str) -> None:
    """Import what this package may need later, if a file in the directory has the name of a module that it needs."""
    names = module_names_in(directory)
    if names.isdisjoint(sys.stdlib_module_names) and names.isdisjoint((*_SMALL, *_LARGE)):
        return
    for name in (*_STANDARD, *_SMALL, *_own_modules()):
        with suppress(ImportError):  # not installed, or not for this process
            import_module(name)
    for name in _LARGE:
        if name in names and name not in sys.modules:
            try:
                import_module(name)
            except ImportError:
                sys.modules[name] = None  # type: ignore[assignment]  # makes an import fail: the documented way


def check_imports(file: Path, directory: str, *, named: str) -> None:
    """Raise TargetError if `file`, or a module in the directory that it imports, imports a name that is taken."""
    names = module_names_in(directory)
    taken = {name for name in names if name in sys.modules and _is_another(sys.modules[name], name, directory)}
    found = _first_import(file, Path(directory), names, taken) if taken else None
    if found is not None:
        importer, name = found
        raise TargetError(
            named,
            f"{importer.name} imports {name!r}, which offload needs itself, so that {name}.py beside it cannot be "
            "imported; rename that file",
        )


def module_names_in(directory: str) -> frozenset[str]:
    """Returns the names under which files and packages in the directory can be imported."""
    try:
        entries = list(os.scandir(directory or os.curdir))
    except OSError:
        return frozenset()
    files = {entry.name.removesuffix(".py") for entry in entries if entry.name.endswith(".py")}
    folders = {entry.name for entry in entries if os.path.exists(os.path.join(entry.path, "__init__.py"))}
    return frozenset(files | folders)


def _first_import(file: Path, directory: Path, names: Iterable[str], taken: Iterable[str]) -> tuple[Path, str] | None:
    """Returns the first file, of those that `file` imports from the directory, that imports a taken name."""
    waiting, seen = [file], {file}
    while waiting:
        importer = waiting.pop(0)
        for name in _imported_names(importer):
            if name in taken:
                return importer, name
            new = [path for path in files_of(name, directory) if name in names and path not in seen]
            seen.update(new)
            waiting.extend(new)
    return None


def _imported_names(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # the import reports it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
            yield node.module.partition(".")[0]


def files_of(name: str, directory: Path) -> Iterator[Path]:
    """Yields the files of the module or package in the directory; of a dotted name, those of the outermost."""
    name = name.partition(".")[0]
    file = directory / f"{name}.py"
    if file.is_file():
        yield file
    yield from sorted((directory / name).rglob("*.py"))


def _own_modules() -> Iterator[str]:
    for package in _OWN:
        for directory in import_module(package).__path__:
            yield from _modules_in(directory, package)


def _modules_in(directory: str, package: str) -> Iterator[str]:
    for name in sorted(module_names_in(directory) - {"__init__"}):
        yield f"{package}.{name}"
        yield from _modules_in(os.path.join(directory, name), f"{package}.{name}")


def _is_another(module: object, name: str, directory: str) -> bool:
    """Whether the loaded module is not the one in the directory, which any other program would get."""
    if getattr(getattr(module, "__spec__", None), "origin", None) in _FIXED:
        return False
    file = getattr(module, "__file__", None)
    own = (os.path.join(directory, f"{name}.py"), os.path.join(directory, name, "__init__.py"))
    return file is None or os.path.realpath(file) not in map(os.path.realpath, own)
