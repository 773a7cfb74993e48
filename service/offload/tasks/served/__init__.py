"""The package of served files that cannot be imported under their own names, such as `my-tasks.v2.py`.

The child processes of a task import the module of each function and class that they receive. Importing a module of this
package imports the package first, in any process, and the finder below then searches the directories on `sys.path`:
`multiprocessing` and joblib pass `sys.path` on to child processes, and the directory of a served file is on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Final

_DIGEST_LENGTH: Final = 12


def name_of_file(file: str) -> str:
    """Returns a readable and unique name in this package for the module in `file`."""
    real = os.path.realpath(file)
    stem = re.sub(r"[^0-9A-Za-z_]", "_", Path(real).stem)
    return f"{__name__}.{stem}_{_digest(os.fsencode(real))}"


def name_of_text(file: str, text: str) -> str:
    """Returns a name for the module in `file` as long as it has this text."""
    return f"{name_of_file(file)}_{_digest(text.encode('utf-8', 'surrogatepass'))}"


def specification(name: str, file: str, loader: Loader) -> ModuleSpec:
    """Returns what `importlib` needs to make the module `name` of this package from `file`."""
    spec = _Spec(name, loader, origin=file)
    spec.has_location = True
    return spec


class _Spec(ModuleSpec):
    """A module that belongs to this package by name only: `from . import x` must not find this package's files."""

    @property
    def parent(self) -> str:
        return ""


class _Finder(MetaPathFinder):
    """Finds the file that a name of this package was made of."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{__name__}."):
            return None
        file = next((file for file in _python_files() if _is_name_of(fullname, file)), None)
        return None if file is None else specification(fullname, file, SourceFileLoader(fullname, file))


def _python_files() -> Iterator[str]:
    for directory in sys.path:
        try:
            names = os.listdir(directory or os.curdir)
        except OSError:
            continue
        yield from (os.path.join(directory, name) for name in names if name.endswith(".py"))


def _is_name_of(name: str, file: str) -> bool:
    own = name_of_file(file)
    if not name.startswith(f"{own}_"):
        return name == own
    try:
        return name == name_of_text(file, decode_source(Path(file).read_bytes()))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]


# An import of a module of this package, which happens in unpickling, finds the module only through this.
sys.meta_path.append(_Finder())
