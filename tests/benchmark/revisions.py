"""An older revision of the service, for figures of before and after taken in the same rounds.

Lives here: taking the package of a git revision out of the repository that this one stands in, and the system that
serves it.  The revision's own tasks are not used: it serves this one's.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from tests.benchmark.cache import folder
from tests.benchmark.errors import BenchError
from tests.benchmark.systems import BASELINE, PACKAGE_FOLDER, System, service

_GIT_S: Final = 60.0


def baseline(revision: str) -> System:
    """The service at that revision.  Raises BenchError when there is no such revision, or no package in it."""
    commit = _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
    home = folder(f"revision-{commit}")
    if not home.exists():
        archive = _git("archive", commit, "offload")
        # Under another name until it is whole.
        unfinished = home.with_suffix(".unfinished")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(unfinished, filter="data")
        unfinished.rename(home)
    return service(BASELINE, home, may_fail=True)  # it need not have all that is measured


def _git(*arguments: str) -> bytes:
    """Run where the package lies, so that paths are below it."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=Path(PACKAGE_FOLDER), capture_output=True, timeout=_GIT_S, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        raise BenchError(f"git says: {error.stderr.decode('utf-8', 'replace').strip()}") from error
