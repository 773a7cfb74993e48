"""`python -m tests.benchmark [SCENARIO …]`: runs scenarios one after another and prints tables.

Markdown goes to stdout, progress to stderr, and the figures to a JSON file if one is named.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from tests.benchmark import environments, goals, report, systems
from tests.benchmark.errors import BenchError
from tests.benchmark.options import DEFAULT_ROUNDS, DEFAULT_SECONDS, Options, say
from tests.benchmark.report import Report
from tests.benchmark.scenarios import engines, health, idle, jobs, overload, payload, recover
from tests.benchmark.systems import BY_NAME, DEFAULT, PEERS, System

SCENARIOS: Final[Mapping[str, Callable[[Options], Report]]] = {
    "jobs": jobs.run,
    "health": health.run,
    "recover": recover.run,
    "overload": overload.run,
    "payload": payload.run,
    "idle": idle.run,
    "engines": engines.run,
}

_MAX_ROUNDS: Final = 100
_MAX_SECONDS: Final = 600.0
_EXIT_FAILED: Final = 1
_EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line names, all scenarios by default. Returns the exit code."""
    asked = _parser().parse_args(arguments)
    # SIGTERM like Ctrl-C: an exception, so that servers and loads are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chosen, notes = _systems_of(asked)
        options = Options(rounds=asked.rounds, seconds=asked.seconds, systems=chosen)
        _run(asked.scenarios or list(SCENARIOS), options, notes, asked.json, asked.files)
    except (BenchError, OSError) as error:
        print(f"tests.benchmark: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


def _systems_of(asked: argparse.Namespace) -> tuple[tuple[System, ...], list[str]]:
    """Returns the systems to measure, and a sentence on each that cannot be installed."""
    wanted = [*(asked.systems or DEFAULT), *(PEERS if asked.peers else ())]
    if asked.baseline is not None:
        wanted.append(systems.baseline(asked.baseline))
    chosen, notes = [], []
    for system in dict.fromkeys(wanted):
        try:
            if system.requirements:
                say(f"{system.name}: {', '.join(system.requirements)}")
                environments.prepare(system.name, system.requirements)
        except BenchError as error:
            notes.append(f"Left out: {system.name}: {error}")
        else:
            chosen.append(system)
    return tuple(chosen), notes


def _run(
    scenarios: Sequence[str], options: Options, notes: Sequence[str], json_path: Path | None, files_path: Path | None
) -> None:
    facts = report.machine()
    print("\n\n".join(["# Benchmark", report.machine_line(facts), *notes]), end="\n\n", flush=True)
    figures, measured = {}, {}
    for name in scenarios:
        made = SCENARIOS[name](options)
        print(made.markdown(), flush=True)
        figures[name] = made.figures
        measured[name] = {"figures": made.figures, "measurements": made.data}
        if files_path is not None:
            for file_name, text in made.files.items():
                (files_path / file_name).write_text(text, encoding="utf-8")
    verdicts = goals.verdicts(figures)
    print(f"## Goals\n\n{goals.table(verdicts)}", flush=True)
    if json_path is not None:
        document: dict[str, Any] = {
            "machine": facts,
            "options": {
                "rounds": options.rounds,
                "seconds": options.seconds,
                "systems": [system.name for system in options.systems],
            },
            "notes": notes,
            "scenarios": measured,
            "goals": verdicts,
        }
        json_path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark",
        description="Measure the service beside its alternatives, and print tables.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "scenarios",
        metavar="SCENARIO",
        nargs="*",
        type=lambda text: _known("scenario", text, SCENARIOS),
        help=f"{', '.join(SCENARIOS)}; all by default",
    )
    parser.add_argument(
        "--rounds",
        type=lambda text: int(_number(text, 1, _MAX_ROUNDS, whole=True)),
        default=DEFAULT_ROUNDS,
        help="measurements of each system (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=lambda text: _number(text, 0.01, _MAX_SECONDS),
        default=DEFAULT_SECONDS,
        help="length of a load (%(default)s)",
    )
    parser.add_argument(
        "--systems",
        metavar="NAME,…",
        type=lambda text: [BY_NAME[_known("system", name, BY_NAME)] for name in text.split(",")],
        help=f"of {', '.join(BY_NAME)}; {', '.join(system.name for system in DEFAULT)} by default",
    )
    parser.add_argument("--peers", action="store_true", help="add other projects, each installed in .bench/")
    parser.add_argument("--baseline", metavar="REVISION", help="add the service at this git revision")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures to this file")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="write the charts to this folder")
    return parser


def _known(kind: str, text: str, known: Mapping[str, object]) -> str:
    if text not in known:
        raise argparse.ArgumentTypeError(f"unknown {kind} {text!r}; choose from {', '.join(known)}")
    return text


def _number(text: str, lowest: float, highest: float, *, whole: bool = False) -> float:
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = lowest - 1
    if not lowest <= number <= highest:  # also if it is not a number
        kind = "whole number" if whole else "number"
        raise argparse.ArgumentTypeError(f"{text!r} is not a {kind} from {lowest:g} to {highest:g}")
    return number


if __name__ == "__main__":
    sys.exit(main())
