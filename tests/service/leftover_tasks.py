"""Tasks that leave their process in another state than they found it, and one that looks at it."""

from __future__ import annotations

import ctypes
import decimal
import faulthandler
import gc
import io
import multiprocessing
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Final

from offload import task

LIMITS: Final = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")
TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
KEPT: Final[list[Any]] = []
MARKS: Final[list[str]] = []


@task
def look(line: str = "") -> dict[str, Any]:
    """Returns the state of this process; writes the line in all ways."""
    if line:
        print(line, "by print")
        print(line, "by print to stderr", file=sys.stderr)
        os.write(1, f"{line} by descriptor 1\n".encode())
        os.write(2, f"{line} by descriptor 2\n".encode())
        subprocess.run(["echo", line, "by a child"], check=True)
    mask = os.umask(0)
    os.umask(mask)
    return {
        "pid": os.getpid(),
        "input": sys.stdin.read() + os.read(0, 10).decode(),
        "streams": [(s.encoding, s.errors, s.closed, s is o) for s, o in ((sys.stdout, OUT), (sys.stderr, ERR))],
        "descriptors": [os.stat(0).st_rdev == os.stat(os.devnull).st_rdev, os.fstat(1) == os.fstat(2)],
        "blocking": [os.get_blocking(number) for number in (0, 1, 2)],
        "folder": os.getcwd(),
        "mask": mask,
        "timers": [signal.getitimer(timer) for timer in TIMERS],
        "handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wakeup": signal.set_wakeup_fd(-1),
        "dumps": faulthandler.is_enabled(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS},
        "tracing": [str(sys.gettrace()), str(sys.getprofile()), str(threading.gettrace())],
        "timeout": socket.getdefaulttimeout(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "interpreter": [gc.isenabled(), sys.getrecursionlimit(), sys.get_int_max_str_digits()],
        "decimal": [decimal.getcontext().prec, decimal.getcontext().rounding],
        "kept": [os.environ.get("LEFT"), MARKS, [thread.name for thread in threading.enumerate()]],
        "modules": [name in sys.modules for name in ("json", "email", "pydantic")],
    }


OUT: Any = None
ERR: Any = None


@task
def remember_streams() -> None:
    """The next jobs must find the same objects: a logger may hold them."""
    global OUT, ERR
    OUT, ERR = sys.stdout, sys.stderr


@task
def children() -> list[str]:
    """Returns the states of the children of this process."""
    states = []
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in file.read().split():
            with open(f"/proc/{pid}/stat") as stat:
                states.append(stat.read().rpartition(")")[2].split()[0])
    return states


@task
def read_file(path: str) -> str:
    with open(path) as file:
        return file.read()


# Standard streams


@task
def closes_stdout() -> None:
    sys.stdout.close()


@task
def closes_the_file_of_stdout() -> None:
    sys.stdout.buffer.raw.close()  # type: ignore[union-attr]


@task
def wraps_stdout() -> None:
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    print("é", end="")


@task
def wraps_stdout_for_longer() -> None:
    """The wrapper ends up in a reference cycle, and is collected later."""
    wrapper: Any = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    wrapper.itself = wrapper
    sys.stdout = wrapper


@task
def detaches_stdout() -> None:
    sys.stdout.detach()  # type: ignore[union-attr]


@task
def sets_encoding_of_stdout() -> None:
    sys.stdout.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]


@task
def replaces_stdout_by_closed_file() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # left open
    sys.stdout.close()


@task
def opens_stdout_again() -> None:
    sys.stdout = open(sys.stdout.fileno(), "w", encoding="latin-1")  # noqa: SIM115  # left open


@task
def sets_stderr_to_none() -> None:
    sys.stderr = None


@task
def deletes_streams() -> None:
    del sys.stdout, sys.stderr, sys.stdin


@task
def closes_stdin() -> None:
    sys.stdin.close()


@task
def prints_into(path: str) -> None:
    """The job's own stream keeps what was printed, although nobody closes it."""
    print("before ", end="")
    sys.stdout = open(path, "w")  # noqa: SIM115  # left open
    KEPT.append(sys.stdout)
    print("into the file", end="")


@task
def prints_then_closes() -> None:
    print("half a line", end="")
    os.close(1)


# Descriptors


@task
def closes_descriptors() -> None:
    os.close(1)
    os.close(2)


@task
def redirects_descriptors(path: str = os.devnull) -> None:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    for number in (0, 1, 2):
        os.dup2(file, number)
    os.close(file)


@task
def gives_away_descriptors() -> None:
    """The next files get the numbers."""
    for number in (0, 1, 2):
        os.close(number)
    KEPT.extend(tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115  # left open


@task
def stops_blocking() -> None:
    """As some programs do with a pipe that they inherit."""
    for number in (0, 1):
        os.set_blocking(number, False)


# Signals and timers


@task
def sets_alarm() -> None:
    signal.alarm(100)


@task
def sets_timers() -> None:
    for timer in TIMERS:
        signal.setitimer(timer, 100, 100)


@task
def sets_watchdog() -> None:
    faulthandler.dump_traceback_later(0.2, exit=True)


@task
def alarm_that_raises(delay_s: float) -> None:
    def give_up(*_: object) -> None:
        raise TimeoutError("the job's own limit")

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, delay_s, 0.001)


@task
def ignores_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


@task
def handles_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, lambda *_: None)


@task
def blocks_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))


@task
def blocks_pending_signals() -> None:
    blocks_signals()
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)


@task
def leaves_wakeup_descriptor() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    os.close(reader)


@task
def disables_dumps() -> None:
    faulthandler.disable()


# The process


@task
def changes_folder() -> None:
    os.chdir("/")


@task
def deletes_its_folder() -> None:
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


@task
def changes_mask() -> None:
    os.umask(0o777)


@task
def lowers_soft_limits() -> None:
    for name, value in (("FSIZE", 10), ("NOFILE", 3), ("CPU", 10**6), ("AS", 1 << 40)):
        limit = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


@task
def lowers_hard_limit() -> None:
    """Without the privilege to raise it again, which root has."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for number in (0, 1):
        sets[number] &= ~(1 << 24)  # CAP_SYS_RESOURCE, effective and permitted
    assert libc.capset(header, sets) == 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))


# The interpreter


@task
def traces() -> None:
    def trace(*_: object) -> Any:
        raise RuntimeError("a tracer")

    threading.settrace(trace)
    sys.settrace(trace)


@task
def profiles() -> None:
    sys.setprofile(lambda *_: None)


@task
def sets_timeout() -> None:
    socket.setdefaulttimeout(0.01)


@task
def changes_interpreter() -> None:
    gc.disable()
    sys.setrecursionlimit(300)
    sys.set_int_max_str_digits(1000)


@task
def sets_start_method() -> None:
    multiprocessing.set_start_method("spawn")  # raises if it has been set


@task
def rounds_numbers() -> None:
    decimal.getcontext().prec = 5
    decimal.getcontext().rounding = decimal.ROUND_UP


@task
def sets_decimal_context() -> None:
    decimal.setcontext(decimal.Context(prec=3))


@task
def removes_modules() -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in ("json", "email", "pydantic"):
            del sys.modules[name]


# What stays


@task
def sets_variable() -> None:
    os.environ["LEFT"] = secrets.token_hex(4)


@task
def adds_to_a_global() -> None:
    MARKS.append("x")


@task
def leaves_a_thread() -> None:
    threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()


# Children


@task
def leaves_orphans(count: int = 3) -> None:
    """They have ended when the job ends."""
    for _ in range(count):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os._exit(0)
            os._exit(0)
        os.close(writer)
        os.read(reader, 1)  # the end of the file: both have ended
        os.close(reader)
        os.waitpid(child, 0)


@task
def leaves_children() -> None:
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


@task
def starts_popen() -> None:
    process = subprocess.Popen(["sh", "-c", "exit 7"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    KEPT.append(process)


@task
def asks_popen() -> int:
    code: int = KEPT.pop().wait()
    return code


@task
def waits_for_own_children() -> list[int]:
    """Orphans come and go meanwhile."""
    leaves_orphans()
    codes = [subprocess.run(["sh", "-c", "sleep 0 & exit 3"]).returncode]
    child = os.fork()
    if child == 0:
        os._exit(5)
    time.sleep(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return codes
