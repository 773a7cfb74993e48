"""Runs the functions registered with `atexit`, in processes that `multiprocessing` ends with `os._exit`.

So what a module makes at its import is removed at the end of the process, as when it is run as a program.
"""

from __future__ import annotations

import atexit
import threading


def forget_exit_functions() -> None:
    """Forget those of the process that this one is a copy of: it runs them itself."""
    vars(atexit)["_clear"]()


def run_exit_functions() -> None:
    """Run them in the reverse order, as the interpreter does at its end. Later there are none."""
    vars(atexit)["_run_exitfuncs"]()


def run_exit_functions_within(timeout_s: float) -> None:
    """Run them in a thread of their own, and wait for it no longer than `timeout_s`."""
    thread = threading.Thread(target=run_exit_functions, name="offload-exit-functions", daemon=True)
    thread.start()
    thread.join(timeout_s)
