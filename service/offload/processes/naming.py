"""Names the exit codes and signals with which processes end."""

from __future__ import annotations

import signal

from offload.core.death import Death


def name_death(exit_code: int | None, *, note: str = "") -> Death:
    """Returns the death for an exit code of `multiprocessing`: negative for a signal, None if unknown."""
    if exit_code is None or exit_code >= 0:
        return Death(exit_code=exit_code, note=note)
    return Death(signal=signal_name(-exit_code), note=note)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal has only a number
