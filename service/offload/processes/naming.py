"""What the end of a process looks like: the one function that names exit codes and signals."""

from __future__ import annotations

import signal

from offload.core.death import Death


def name_death(exit_code: int | None, *, note: str = "") -> Death:
    """`exit_code` as `multiprocessing` has it: negative for a signal; None where nobody can tell any more."""
    if exit_code is None or exit_code >= 0:
        return Death(exit_code=exit_code, note=note)
    return Death(signal=signal_name(-exit_code), note=note)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal has a number and no name
