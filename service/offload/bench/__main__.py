"""`python -m offload.bench [SCENARIO …]`: runs scenarios one after the other, and prints a table of each.

Lives here: the command line.  Markdown goes to stdout and the figures to a JSON file, where one is asked for; what is
going on meanwhile goes to stderr.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from offload.bench import health, jobs, overload, recover, report
from offload.bench.children import BenchError
from offload.bench.options import DEFAULT_ROUNDS, DEFAULT_SECONDS, Options
from offload.bench.report import Report

SCENARIOS: Final[Mapping[str, Callable[[Options], Report]]] = {
    "jobs": jobs.run,
    "health": health.run,
    "recover": recover.run,
    "overload": overload.run,
}

_MAX_ROUNDS: Final = 100
_MAX_SECONDS: Final = 600.0

_EXIT_FAILED: Final = 1
_EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for, all scenarios by default.  Returns the exit code."""
    asked = _parser().parse_args(arguments)
    # SIGTERM as Ctrl-C: an exception, so that servers and loads are ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = Options(rounds=asked.rounds, seconds=asked.seconds)
        _run(asked.scenarios or list(SCENARIOS), options, json_path=asked.json, drawings_path=asked.drawings)
    except (BenchError, OSError) as error:
        print(f"offload.bench: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


def _run(scenarios: Sequence[str], options: Options, *, json_path: Path | None, drawings_path: Path | None) -> None:
    facts = report.machine()
    print(f"# offload: benchmark\n\n{report.machine_line(facts)}\n", flush=True)
    document: dict[str, Any] = {"machine": facts, "options": options, "scenarios": {}}
    for name in scenarios:
        made = SCENARIOS[name](options)
        print(made.markdown(), flush=True)
        document["scenarios"][name] = made.data
        if drawings_path is not None:
            for file_name, drawing in made.drawings.items():
                (drawings_path / file_name).write_text(drawing, encoding="utf-8")
    if json_path is not None:
        json_path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m offload.bench",
        description="Measure the service beside what people use without it, and print tables.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "scenarios", metavar="SCENARIO", nargs="*", type=_scenario, help=f"{', '.join(SCENARIOS)}; all by default"
    )
    parser.add_argument("--rounds", type=_rounds, default=DEFAULT_ROUNDS, help="turns of each system (%(default)s)")
    parser.add_argument("--seconds", type=_seconds, default=DEFAULT_SECONDS, help="length of a load (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures to this file")
    parser.add_argument("--drawings", type=Path, metavar="FOLDER", help="write what is drawn (SVG) to this folder")
    return parser


def _scenario(text: str) -> str:
    if text not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"there is no scenario {text!r}; there are {', '.join(SCENARIOS)}")
    return text


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_ROUNDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MAX_ROUNDS}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, up to {_MAX_SECONDS:.0f}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
