"""`python -m tests.benchmark.load PLAN`: puts load on a server of this machine and prints the result as JSON."""

from __future__ import annotations

import asyncio
import sys

from tests.benchmark.errors import BenchError
from tests.benchmark.event_loop import loop_factory
from tests.benchmark.load import schedules
from tests.benchmark.load.plan import LoadPlan


def main(arguments: list[str]) -> int:
    """Carries out the plan in the one argument. Returns the exit code."""
    plan = LoadPlan.from_json(arguments[0])
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            result = runner.run(schedules.run(plan))
        except OSError as error:
            print(f"cannot connect to port {plan.port}: {error}", file=sys.stderr)
            return 1
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
    sys.stdout.buffer.write(result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
