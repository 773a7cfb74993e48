"""A million jobs on a thousand slots, in a process of its own.

Run as a program it plays them and prints how it went.  `LongLife` is that program beside the tests, with what they
leave of the cores: the longest of all simulations then costs hardly any time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from offload.core.outcome import Reason
from tests.unit.core.mixtures import MILLION
from tests.unit.core.simulation import Simulation

ROOT = Path(__file__).parents[3]


class LongLife:
    """Begins at once."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", __name__], cwd=ROOT, stdout=subprocess.PIPE)

    def wait(self) -> tuple[set[Reason], set[str]]:
        """The reasons for which jobs have ended, and what else has happened, once all of it was as promised."""
        output, _ = self._process.communicate()
        assert self._process.returncode == 0, "something was not as promised, see stderr"
        life = json.loads(output)
        print(life)
        return set(map(Reason, life["reasons"])), {name for name, times in life["happenings"].items() if times}

    def end(self) -> None:
        """Whether or not it has come to its own end."""
        with self._process:
            self._process.kill()


def main() -> None:
    os.nice(19)
    simulation = Simulation(MILLION)
    began_at = time.perf_counter()
    simulation.run()
    took_s = time.perf_counter() - began_at
    life = {
        "events": simulation.events,
        "jobs_per_s": round(simulation.scheduler.submitted / took_s),
        "reasons": dict(simulation.reasons),
        "happenings": dict(simulation.engine.counts),
    }
    print(json.dumps(life))


if __name__ == "__main__":
    main()
