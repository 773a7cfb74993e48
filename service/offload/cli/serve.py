"""`offload serve TARGET…`: run the service from the command line.

The options are made from the table of settings. A user's mistake is reported on stderr in a sentence, with its
traceback only at log level `debug`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

from offload.cli.logs import log_output
from offload.cli.surroundings import is_directory_usable
from offload.errors import SettingsError, SurroundingsError, TargetError, UserError
from offload.processes.limits import refusals_explained
from offload.settings.kinds import Choice, Switch
from offload.settings.sources import CONFIG_FLAG, CONFIG_VARIABLE, load_settings, suggestion
from offload.settings.table import LogLevel, Setting, Settings, table

# The first setting of each group in `--help`, and its title.
_GROUPS: Final = {
    "host": "address",
    "engine": "workers",
    "timeout": "time limits",
    "queue_limit": "queue and callers",
    "log_level": "log",
}
_EXIT_FAILED: Final = 1
_EXIT_USAGE: Final = 2


def run(arguments: Sequence[str]) -> int:
    """Serve until a signal. Returns the exit code: 0 after a drain, 2 for faulty settings, 1 for other mistakes."""
    parser = _parser()
    namespace, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        known = [setting.flag for setting in table()]
        parser.error(f"unknown option {unknown[0]!r}{suggestion(unknown[0], known)}")
    options = vars(namespace)
    targets: list[str] = options.pop("targets")
    config: str | None = options.pop("config", None)
    try:
        settings = load_settings(options, os.environ, config)
        _settle_directory(targets, settings)
        with ExitStack() as stack:
            with refusals_explained("start"):
                # Imported late so that a mistyped flag fails fast.
                from offload import service

                stack.enter_context(log_output(settings.log_level))
            return service.run(targets, settings)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"offload: {line}", file=sys.stderr)
        if isinstance(error, TargetError) and error.stack:
            _print_stack(error.stack, is_wanted=settings.log_level == LogLevel.DEBUG)
        return _EXIT_USAGE if isinstance(error, SettingsError) else _EXIT_FAILED


def _print_stack(stack: str, *, is_wanted: bool) -> None:
    print(stack if is_wanted else "offload: --log-level debug shows the traceback", file=sys.stderr)


def _settle_directory(targets: Sequence[str], settings: Settings) -> None:
    """Leave a working directory that cannot be used: processes that are started could not enter it.

    Raises SurroundingsError if something to serve is named by a path relative to it.
    """
    if is_directory_usable():
        return
    files = [target for target in targets if target.endswith(".py") or os.sep in target]
    for path in (*files, settings.uds or "/"):
        if not os.path.isabs(path):
            problem = "the working directory was removed or cannot be entered; start the service in another one"
            raise SurroundingsError(f"find {path}", problem)
    os.chdir("/")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offload serve",
        usage="offload serve TARGET [TARGET ...] [options]",
        description="Serve the tasks of Python files and modules over HTTP.",
        epilog="Every option can also be set in a variable (--queue-limit is OFFLOAD_QUEUE_LIMIT) or in a TOML file "
        f"({CONFIG_FLAG} or {CONFIG_VARIABLE}; queue-limit = 50). The command line takes precedence over variables, "
        "and variables over the file.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("targets", metavar="TARGET", nargs="+", help="A file (tasks.py) or a module (package.tasks).")
    parser.add_argument("-h", "--help", action="help", help="Show this help and exit.")
    parser.add_argument(CONFIG_FLAG, metavar="PATH", help="TOML file with settings.")
    add = parser.add_argument
    for setting in table():
        if setting.name in _GROUPS:
            add = parser.add_argument_group(_GROUPS[setting.name]).add_argument
        _add_flag(add, setting)
    return parser


def _add_flag(add: Callable[..., object], setting: Setting) -> None:
    """Values stay text: `load_settings` reads them, so that all faults are reported together."""
    kind = setting.kind
    values = "" if isinstance(kind, (Choice, Switch)) else f" {kind.range[0].upper()}{kind.range[1:]}."
    text = f"{setting.help}{values} [default: {setting.default}]".replace("%", "%%")
    if kind.placeholder:
        add(setting.flag, metavar=kind.placeholder, help=text)
    else:
        add(setting.flag, action=argparse.BooleanOptionalAction, help=text)
