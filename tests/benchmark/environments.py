"""Virtual environments of the peers, made on demand.

Lives here: making one, once, and saying in a sentence why one cannot be made.  The command asks for those of the
chosen peers before anything is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Final

from tests.benchmark.cache import folder
from tests.benchmark.errors import BenchError
from tests.benchmark.peers import Peer

_INSTALL_S: Final = 600.0
_STAMP: Final = "requirements.txt"


def prepare(peer: Peer) -> None:
    """The peer's environment is there afterwards, with just these versions.  Raises BenchError when that cannot be."""
    home = folder(peer.name)
    wanted = "\n".join([f"# Python {sys.version}", *peer.requirements, ""])
    stamp = home / _STAMP
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    shutil.rmtree(home, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(home))
    _run(str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements)
    stamp.write_text(wanted, encoding="utf-8")  # last: half an environment has none


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"cannot be installed: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BenchError(f"cannot be installed: {said[-1] if said else command}")
