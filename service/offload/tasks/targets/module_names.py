"""Chooses the name under which a served file is imported.

It is the file's own name, if child processes find the file by it: so a module beside the file that imports it gets the
same module, and a pickled class can be read by any program that finds the file. Otherwise it is a name in the package
`served`.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from offload.tasks.served import name_of_file


def module_name(file: str) -> str:
    """Returns the name for the module in `file`, whose directory is on `sys.path`."""
    stem = Path(file).stem
    return (
        stem if _can_be_name(stem) and is_found(stem, file) and not _hides_another(stem, file) else name_of_file(file)
    )


def is_found(name: str, file: str) -> bool:
    """Returns whether an import of `name` gets this file, here and in a process with the same `sys.path`."""
    if name in sys.modules:
        is_loaded = _is_same_file(getattr(sys.modules[name], "__file__", None), file)
        return is_loaded and _is_of(PathFinder.find_spec(name), file)
    try:
        return _is_of(find_spec(name), file)
    except (ImportError, ValueError):  # of another library's finder
        return False


def _can_be_name(stem: str) -> bool:
    """Returns whether a module may have this name: `__main__` may not, nor one of the standard library."""
    return "." not in stem and stem.isprintable() and not stem.startswith("__") and stem not in sys.stdlib_module_names


def _hides_another(name: str, file: str) -> bool:
    """Returns whether the file hides an installed module: what needs that one later must still find it."""
    own = os.path.realpath(Path(file).parent)
    others = [directory for directory in sys.path if os.path.realpath(directory) != own]
    spec = PathFinder.find_spec(name, others)
    return spec is not None and spec.origin is not None


def _is_of(spec: ModuleSpec | None, file: str) -> bool:
    return spec is not None and _is_same_file(spec.origin, file)


def _is_same_file(one: str | None, other: str) -> bool:
    return one is not None and os.path.realpath(one) == os.path.realpath(other)
