"""The command line: `offload VERB …`. Each verb is a module of this package.

Importing this module is cheap, because spawned child processes import the main module of the console script again, and
with it this one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

_EXIT_INTERRUPTED: Final = 130  # as in a shell: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for faulty settings or usage. `argv` excludes the program's name."""
    if argv is not None:
        return _run_to_exit_code(list(argv))
    # As a command, not called by another program.
    from offload.cli.surroundings import (
        end_at_stop_signals,
        end_like_a_command,
        leave_start_directory,
        open_standard_streams,
    )

    open_standard_streams()  # before anything else opens a descriptor
    end_at_stop_signals()
    leave_start_directory()
    code = _run_to_exit_code(sys.argv[1:])
    end_like_a_command(code)
    return code


def _run_to_exit_code(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except SystemExit as stop:  # argparse has printed the error, the help or the version
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _run(arguments: list[str]) -> int:
    import argparse

    from offload import __version__
    from offload.cli import serve

    parser = argparse.ArgumentParser(
        prog="offload",
        usage="offload COMMAND [options]",
        description="Turn CPU-heavy Python functions into an HTTP compute service.",
        epilog="Run `offload serve --help` for all options.",
        allow_abbrev=False,
        add_help=False,
    )
    commands = parser.add_argument_group("commands")
    commands.add_argument(
        "verb", metavar="serve", choices=["serve"], help="Serve the tasks of Python files and modules."
    )
    parser.add_argument("-h", "--help", action="help", help="Show this help and exit.")
    parser.add_argument(
        "--version", action="version", version=f"offload {__version__}", help="Show the version and exit."
    )
    parser.parse_args(arguments[:1])
    return serve.run(arguments[1:])
