"""Says what is wrong with the name of a target that cannot be served, and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MAX_EXAMPLES: Final = 3
_LEAST_SIMILARITY: Final = 0.75
_MAX_FILES_READ: Final = 200
_MAX_BYTES_READ: Final = 1 << 20
_DECORATED: Final = re.compile(rb"^[ \t]*@(?:[A-Za-z_]\w*\.)?task\b", re.MULTILINE)

# How the command lines of other servers name an object in a module.
_OBJECT: Final = re.compile(r"(?P<target>[^:]+)::?[A-Za-z_][\w.]*(?:\(.*\))?")

_KINDS: Final = {
    ".ipynb": "a notebook is not a Python file; export it with `jupyter nbconvert --to script {name}`",
    ".pyc": "this is compiled; name its source, which ends in .py",
    ".so": "this is an extension module; serve a Python file that imports it",
    ".zip": "this is an archive; unpack it, or put it on PYTHONPATH and name a module in it",
}
_KINDS_ALIKE: Final = {".pyo": ".pyc", ".pyd": ".so", ".dll": ".so", ".whl": ".zip", ".egg": ".zip", ".pyz": ".zip"}


def problem_with_file(path: Path, named: str) -> str | None:
    """Returns what is wrong with a file to be imported, or None."""
    suffix = path.suffix.lower()
    kind = _KINDS.get(_KINDS_ALIKE.get(suffix, suffix))
    if path.is_dir():
        return f"this is a directory; {_instead(path, named)}"
    if kind is not None:
        return kind.format(name=named)
    if not path.exists():
        return f"no such file{_did_you_mean(path, named)}"
    if suffix != ".py":
        return "not a Python file; the name must end in .py"
    return None


def problem_with_text(text: str) -> str:
    """Returns what is wrong with a text that is neither a file nor the name of a module."""
    named = _OBJECT.fullmatch(text)
    if named is not None:
        return f"name a file or module only, `{named['target']}`; all of its tasks are served"
    return f"no such file or module{_did_you_mean(Path(text).absolute(), text)}"


def package_without_tasks(directory: Path, name: str) -> str:
    """Returns the advice for a package without tasks of its own."""
    modules = [f"`{name}.{file.stem}`" for file in _files_with_tasks(directory)]
    example = f", such as {' or '.join(modules)}" if modules else ""
    return f"the package itself has no task; serve a module in it{example}"


def decorated_line(file: Path) -> int | None:
    """Returns the number of the first line with `@task`, or None."""
    found = _DECORATED.search(_read(file))
    return None if found is None else found.string.count(b"\n", 0, found.end()) + 1


def _instead(directory: Path, named: str) -> str:
    package = Path(named)
    is_package = (directory / "__init__.py").exists() and all(part.isidentifier() for part in package.parts)
    name = ".".join(package.parts)
    found = _files_with_tasks(directory)
    examples = [f"`{name}.{file.stem}`" if is_package else f"`{package / file.name}`" for file in found]
    if not examples:
        return "name a file in it, or a module such as package.module"
    return f"name a {'module' if is_package else 'file'} in it, such as {' or '.join(examples)}"


def _files_with_tasks(directory: Path) -> list[Path]:
    return sorted(_python_files(directory))[:_MAX_EXAMPLES]


def _python_files(directory: Path) -> Iterator[Path]:
    """Yields the files in which `@task` is used."""
    try:
        files = [path for path in directory.iterdir() if path.suffix == ".py" and path.is_file()]
    except OSError:
        return
    for file in files[:_MAX_FILES_READ]:
        if decorated_line(file) is not None:
            yield file


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as source:
            return source.read(_MAX_BYTES_READ)
    except OSError:
        return b""


def _did_you_mean(path: Path, named: str) -> str:
    """Returns a file of a similar name, or ""."""
    dotted = path.with_suffix("").name.replace(".", "/") + ".py"
    if (path.parent / dotted).is_file():
        return f"; did you mean `{Path(named).parent / dotted}`?"
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
    except OSError:
        return ""
    wanted = path.name if path.suffix == ".py" else f"{path.name}.py"
    similar = difflib.get_close_matches(wanted, names, n=1, cutoff=_LEAST_SIMILARITY)
    return f"; did you mean `{Path(named).with_name(similar[0])}`?" if similar else ""
