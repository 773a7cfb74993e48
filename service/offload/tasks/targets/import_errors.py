"""Describes an exception that ended the import of a target: what happened, in which line, and what to do.

The sentences name files relative to `sys.path`, so they reveal no directories of the machine. `stack_of` has the rest.
"""

from __future__ import annotations

import importlib
import linecache
import os
import re
import sys
import traceback
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from offload.tasks.faults import exception_message, exception_name, in_one_line, shortened

_MAX_MESSAGE_LENGTH: Final = 500
_MAX_STACK_LENGTH: Final = 20_000
_OWN_DIRECTORY: Final = f"{Path(__file__).parents[1]}/"
_RELATIVE: Final = re.compile(r"\s*from\s+(\.+)")
# The file of a module in Python's own messages: at the end, and its directories elsewhere.
_FILE_AT_END: Final = re.compile(r" \([^()]*\.(?:py|so)\)$")
_DIRECTORIES: Final = re.compile(r"/[^'()]*/(?=[^/'()]+\.(?:py|so)\b)")
_MAIN_GUARD: Final = 'put what must not run at import below `if __name__ == "__main__":`'
_NOT_TEXT: Final = "save the file as UTF-8 text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was being imported: a file by its path, or a module by its dotted name. `named` is the user's text."""

    named: str
    file: str | None = None
    module: str | None = None

    def is_at(self, file: str) -> bool:
        """Returns whether `file` is its source."""
        if self.module is None:
            return file == self.file
        path = self.module.replace(".", "/")
        return file.endswith((f"/{path}.py", f"/{path}/__init__.py"))


def problem_of(error: BaseException, imported: Imported) -> str:
    """Returns one sentence for the user."""
    places = _places(error)
    if isinstance(error, SyntaxError) and isinstance(error.filename, str) and not error.filename.startswith("<"):
        return _prefix(places, imported) + _syntax_error(error, error.filename)
    text = _text_of(error)
    if imported.file is not None:
        text = text.replace(imported.file, imported.named)
    remedy = _remedy(error, places, imported)
    if isinstance(error, SystemExit):
        text = f"the file ended the program while it was imported ({text})"
    return f"{_prefix(places, imported)}{text}{_innermost(places)}{remedy and f'; {remedy}'}"


def place_of(error: BaseException) -> str:
    """Returns the innermost place in a module of the user's, such as "tasks.py:12", or "" if unknown."""
    places = _places(error)
    return f"{Path(places[-1][0]).name}:{places[-1][1]}" if places else ""


def stack_of(error: BaseException) -> str:
    """Returns the traceback without the frames of imports, or "" if it has one frame only, which the sentence names."""
    report = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = report
    while link is not None:
        link.stack = traceback.StackSummary.from_list([f for f in link.stack if not _is_machinery(f.filename)])
        link = link.__cause__ or link.__context__
    return shortened("".join(report.format()), _MAX_STACK_LENGTH) if len(report.stack) > 1 else ""


def shown_file(file: str) -> str:
    """Returns the path of a file relative to the entry of `sys.path` it is in, or its name."""
    roots = [root for entry in sys.path if file.startswith(root := f"{entry.rstrip('/')}/") and entry]
    return file[len(max(roots, key=len)) :] if roots else Path(file).name


def _text_of(error: BaseException) -> str:
    message = exception_message(error)
    if isinstance(error, (ImportError, AttributeError)):
        message = _DIRECTORIES.sub("", _FILE_AT_END.sub("", message))
    message = shortened(in_one_line(message), _MAX_MESSAGE_LENGTH)
    return f"{exception_name(error)}: {message}" if message else exception_name(error)


def _syntax_error(error: SyntaxError, file: str) -> str:
    line = f", line {error.lineno}" if error.lineno else ""
    message = shortened(str(error.msg), _MAX_MESSAGE_LENGTH)
    text = f"syntax error in {Path(file).name}{line}: {message}"
    is_not_text = "null bytes" in message or message.startswith(("(unicode error) 'utf-8'", "unknown encoding"))
    return f"{text}; {_NOT_TEXT}" if is_not_text else text


def _prefix(places: list[tuple[str, int]], imported: Imported) -> str:
    """Returns "line 3: ", the line of the target's file that was running, or "" if unknown."""
    if not places:
        return ""
    outermost = places[0][0]
    line = [line for file, line in places if file == outermost][-1]
    return f"line {line}: " if imported.is_at(outermost) else f"{shown_file(outermost)}, line {line}: "


def _innermost(places: list[tuple[str, int]]) -> str:
    """Returns where below the outermost file it was raised, or "" if it was raised there."""
    if not places or places[-1][0] == places[0][0]:
        return ""
    file, line = places[-1]
    return f" (raised in {shown_file(file)}, line {line})"


def _remedy(error: BaseException, places: list[tuple[str, int]], imported: Imported) -> str:
    if isinstance(error, SystemExit):
        return _MAIN_GUARD
    if isinstance(error, EOFError):
        return "input is not available at import; " + _MAIN_GUARD
    message = exception_message(error)
    if message == "source code string cannot contain null bytes":
        return _NOT_TEXT
    if "partially initialized module" in message:
        return _circle(places)
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(error, places, imported)
    if isinstance(error, ImportError) and message.startswith("attempted relative import"):
        return _relative_import(places, imported)
    return ""


def _circle(places: list[tuple[str, int]]) -> str:
    files = [file for file, _ in places]
    steps = [f"{shown_file(one)} imports {shown_file(other)}" for one, other in pairwise(files) if one != other]
    modules = f" ({', '.join(steps)})" if steps else ""
    return f"the modules import each other{modules}; move one import into the function that needs it"


def _missing_module(error: ModuleNotFoundError, places: list[tuple[str, int]], imported: Imported) -> str:
    if not isinstance(error.name, str):
        return ""
    name = error.name
    package, _, rest = name.partition(".")
    folders = Path(places[-1][0]).parent.parts if places else ()
    if package in folders:
        return _as_module(places[-1][0], levels=len(folders) - folders.index(package), imported=imported)
    if rest:
        return "correct the name"
    return f"install the package that provides {name!r} for the Python that runs this service, or correct the name"


def _relative_import(places: list[tuple[str, int]], imported: Imported) -> str:
    if not places or not imported.is_at(places[-1][0]):
        return "import this module as a part of its package"
    file, line = places[-1]
    found = _RELATIVE.match(linecache.getline(file, line))
    return _as_module(file, levels=len(found[1]) if found else 1, imported=imported)


def _as_module(file: str, *, levels: int, imported: Imported) -> str:
    """Returns the advice to serve a file as a module of its package, which is at least `levels` directories deep."""
    path = Path(file)
    names = [] if path.stem == "__init__" else [path.stem]
    root = path.parent
    while root != root.parent and (levels > 0 or (root / "__init__.py").exists()):
        names.insert(0, root.name)
        root, levels = root.parent, levels - 1
    unusable = [name for name in names if not name.isidentifier()]
    if unusable:
        return f"rename {unusable[0]!r}, which cannot be a part of a module's name, and serve the file as a module"
    where = str(root) if os.path.isabs(imported.named) else os.path.relpath(root)
    return f"serve it as `{'.'.join(names)}`" + ("" if where == "." else f" from the directory `{where}`")


def _places(error: BaseException) -> list[tuple[str, int]]:
    """Returns file and line of the frames, outermost first, without machinery and installed libraries if possible."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    places = [(file, line) for file, line in frames if not _is_machinery(file)]
    return [(file, line) for file, line in places if not _is_library(file)] or places


def _is_machinery(file: str) -> bool:
    return file.startswith("<") or file.startswith(_OWN_DIRECTORY) or file == importlib.__file__


def _is_library(file: str) -> bool:
    standard = f"{os.path.dirname(os.__file__)}/"
    return file.startswith(standard) or "/site-packages/" in file or "/dist-packages/" in file
