"""`python -m tests.benchmark [SCENARIO …]`: runs scenarios one after the other, and prints a table of each.

Lives here: the command line.  Markdown goes to stdout and the figures to a JSON file, where one is asked for; what is
going on meanwhile goes to stderr.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import orjson

from tests.benchmark import (
    engines,
    environments,
    goals,
    health,
    idle,
    jobs,
    overload,
    payload,
    peers,
    recover,
    report,
    revisions,
)
from tests.benchmark.errors import BenchError
from tests.benchmark.options import DEFAULT_ROUNDS, DEFAULT_SECONDS, Options, say
from tests.benchmark.report import Report
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
    """Runs what the command line asks for, all scenarios by default.  Returns the exit code."""
    asked = _parser().parse_args(arguments)
    # SIGTERM as Ctrl-C: an exception, so that servers and loads are ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        systems, notes = _chosen(asked.systems, has_peers=asked.peers, revision=asked.baseline)
        options = Options(rounds=asked.rounds, seconds=asked.seconds, systems=systems)
        _run(asked.scenarios or list(SCENARIOS), options, notes, json_path=asked.json, files_path=asked.files)
    except (BenchError, OSError) as error:
        print(f"tests.benchmark: {error}", file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


def _chosen(
    systems: Sequence[System] | None, *, has_peers: bool, revision: str | None
) -> tuple[tuple[System, ...], list[str]]:
    """The systems that are measured, and a sentence on each peer that cannot be."""
    wanted = [*(systems or DEFAULT), *(PEERS if has_peers else ())]
    if revision is not None:
        wanted.append(revisions.baseline(revision))
    notes = []
    for peer in peers.PEERS:
        if BY_NAME[peer.name] in wanted:
            say(f"{peer.name}: {', '.join(peer.requirements)}")
            try:
                environments.prepare(peer)
            except BenchError as error:
                notes.append(f"Left out: {peer.name}: {error}")
                wanted = [system for system in wanted if system.name != peer.name]
    return tuple(dict.fromkeys(wanted)), notes


def _run(
    scenarios: Sequence[str],
    options: Options,
    notes: Sequence[str],
    *,
    json_path: Path | None,
    files_path: Path | None,
) -> None:
    facts = report.machine()
    print("\n\n".join(["# offload: benchmark", report.machine_line(facts), *notes]), end="\n\n", flush=True)
    document: dict[str, Any] = {
        "machine": facts,
        "options": {**asdict(options), "systems": [system.name for system in options.systems]},
        "notes": notes,
        "scenarios": {},
    }
    figures = {}
    for name in scenarios:
        made = SCENARIOS[name](options)
        print(made.markdown(), flush=True)
        figures[name] = made.figures
        document["scenarios"][name] = {"figures": made.figures, **made.data}
        if files_path is not None:
            for file_name, text in made.files.items():
                (files_path / file_name).write_text(text, encoding="utf-8")
    document["goals"] = goals.verdicts(figures)
    print(f"## Goals\n\n{goals.table(document['goals'])}", flush=True)
    if json_path is not None:
        json_path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark",
        description="Measure the service beside what people use without it, and print tables.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "scenarios", metavar="SCENARIO", nargs="*", type=_scenario, help=f"{', '.join(SCENARIOS)}; all by default"
    )
    parser.add_argument("--rounds", type=_rounds, default=DEFAULT_ROUNDS, help="turns of each system (%(default)s)")
    parser.add_argument("--seconds", type=_seconds, default=DEFAULT_SECONDS, help="length of a load (%(default)s)")
    parser.add_argument(
        "--systems",
        metavar="NAME,…",
        type=_systems,
        help=f"of {', '.join(BY_NAME)}; {', '.join(system.name for system in DEFAULT)} by default",
    )
    parser.add_argument("--peers", action="store_true", help="those of other people, too: each is installed in .bench/")
    parser.add_argument("--baseline", metavar="REVISION", help="the service at this git revision, too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures to this file")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="write what the repository keeps to this folder")
    return parser


def _scenario(text: str) -> str:
    if text not in SCENARIOS:
        raise argparse.ArgumentTypeError(f"there is no scenario {text!r}; there are {', '.join(SCENARIOS)}")
    return text


def _systems(text: str) -> list[System]:
    for name in text.split(","):
        if name not in BY_NAME:
            raise argparse.ArgumentTypeError(f"there is no system {name!r}; there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in text.split(",")]


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
