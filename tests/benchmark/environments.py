"""What the benchmark makes on demand in `.bench/`: virtual environments of peers, and older revisions of the package.

The folder can be deleted at any time.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import offload
from tests.benchmark.errors import BenchError

PACKAGE_FOLDER: Final = Path(offload.__file__).parents[1]
ROOT: Final = Path(__file__).parents[2]

_INSTALL_S: Final = 600.0
_GIT_S: Final = 60.0
_STAMP: Final = "requirements.txt"


def interpreter(name: str) -> Path:
    """The Python of the environment of that name, whether or not it exists."""
    return _folder(name) / "bin" / "python"


def prepare(name: str, requirements: Sequence[str]) -> None:
    """Makes an environment with these packages unless it exists. Raises BenchError if that fails."""
    home = _folder(name)
    wanted = "\n".join([f"# Python {sys.version}", *requirements, ""])
    stamp = home / _STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(home, ignore_errors=True)
    python, pip = str(interpreter(name)), ("-m", "pip", "--quiet", "--disable-pip-version-check")
    for command in ((sys.executable, "-m", "venv", str(home)), (python, *pip, "install", *requirements)):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BenchError(f"installation failed: {error}") from error
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise BenchError(f"installation failed: {lines[-1] if lines else command}")
    stamp.write_text(wanted, encoding="utf-8")  # last, so that an unfinished environment has none


def checkout(revision: str) -> Path:
    """Returns a folder with the package at that git revision.

    Raises BenchError if the revision does not exist or has no package.
    """
    commit = _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    home = _folder(f"revision-{commit}")
    if not home.exists():
        archive = _git("archive", commit, "offload")
        unfinished = home.with_suffix(".unfinished")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(unfinished, filter="data")
        unfinished.rename(home)
    return home


def _folder(name: str) -> Path:
    return Path.cwd() / ".bench" / name


def _git(*arguments: str) -> bytes:
    """Runs in the folder of the package, so that paths are relative to it."""
    command = ("git", *arguments)
    try:
        return subprocess.run(command, cwd=PACKAGE_FOLDER, capture_output=True, timeout=_GIT_S, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise BenchError(f"git: {error.stderr.decode('utf-8', 'replace').strip()}") from error
