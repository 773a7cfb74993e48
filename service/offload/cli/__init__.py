"""The command line: `offload VERB …`.

Lives here: the choice of the verb; each verb is a file of this package.  Importing this module does nothing and pulls
in next to nothing, because spawned children import the console script's main module again, and with it this one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

_EXIT_INTERRUPTED: Final = 130  # what a shell says of a command that Ctrl-C ended: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; `argv` without the program's name.  Returns the exit code: 2 for settings and usage."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except SystemExit as stop:  # argparse has told what was wrong, or printed what it was asked for
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _run(arguments: list[str]) -> int:
    import argparse

    from offload import __version__
    from offload.cli import serve

    parser = argparse.ArgumentParser(
        prog="offload",
        usage="offload serve TARGET [TARGET ...] [options]",
        description="Turn CPU-heavy Python functions into an HTTP compute service.",
        epilog="`offload serve --help` tells all options.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"offload {__version__}")
    parser.add_argument("verb", metavar="serve", choices=["serve"], help="serve the tasks of files and modules")
    parser.parse_args(arguments[:1])
    return serve.run(arguments[1:])
