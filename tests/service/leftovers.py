"""What a job may leave behind, as docs/tasks.md lists it, and the tasks of `leftover_tasks.py` that leave it."""

from __future__ import annotations

from typing import Final

RESTORED: Final = "restored"
REPLACED: Final = "the next job runs in another worker"
KEPT: Final = "stays"

# What docs/tasks.md says, and for each of these the tasks that do it.
LEFT_BEHIND: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "`sys.stdin`, `sys.stdout`, `sys.stderr`: closed, detached, wrapped, replaced, deleted, another encoding": (
        RESTORED,
        (
            "closes_stdout",
            "closes_the_file_of_stdout",
            "wraps_stdout",
            "wraps_stdout_for_longer",
            "detaches_stdout",
            "sets_encoding_of_stdout",
            "replaces_stdout_by_closed_file",
            "opens_stdout_again",
            "sets_stderr_to_none",
            "deletes_streams",
            "closes_stdin",
        ),
    ),
    "descriptors 0, 1 and 2: closed, redirected, reused for another file, non-blocking": (
        RESTORED,
        ("closes_descriptors", "redirects_descriptors", "gives_away_descriptors", "stops_blocking"),
    ),
    "`signal.alarm`, `signal.setitimer`, `faulthandler.dump_traceback_later`": (
        RESTORED,
        ("sets_alarm", "sets_timers", "sets_watchdog"),
    ),
    "signal handlers, blocked signals, the wake-up descriptor, `faulthandler.disable`": (
        RESTORED,
        (
            "ignores_signals",
            "handles_signals",
            "blocks_signals",
            "blocks_pending_signals",
            "leaves_wakeup_descriptor",
            "disables_dumps",
        ),
    ),
    "the working directory, also a deleted one; `os.umask`": (
        RESTORED,
        ("changes_folder", "deletes_its_folder", "changes_mask"),
    ),
    "soft limits of `resource.setrlimit`": (RESTORED, ("lowers_soft_limits",)),
    "a hard limit that may not be raised again": (REPLACED, ("lowers_hard_limit",)),
    "`sys.settrace`, `sys.setprofile`, `gc.disable`, `sys.setrecursionlimit`, `sys.set_int_max_str_digits`": (
        RESTORED,
        ("traces", "profiles", "changes_interpreter"),
    ),
    "`socket.setdefaulttimeout`, `multiprocessing.set_start_method`, precision and rounding of `decimal`": (
        RESTORED,
        ("sets_timeout", "sets_start_method", "rounds_numbers", "sets_decimal_context"),
    ),
    "modules removed from `sys.modules`": (RESTORED, ("removes_modules",)),
    "ended child processes that nobody waits for, and orphans of child processes": (
        RESTORED,
        ("leaves_orphans", "leaves_children"),
    ),
    "`os.environ`, globals of modules, threads": (KEPT, ("sets_variable", "adds_to_a_global", "leaves_a_thread")),
}

CASES: Final = [(name, fate) for fate, names in LEFT_BEHIND.values() for name in names]
