"""Tasks that damage their own process in every way a task can."""

from __future__ import annotations

import ctypes
import io
import itertools
import os
import signal
import sys
import threading
import time
from importlib import import_module

import offload
from offload import task

# The time limit of tasks that never end; a test may set a longer one.
LIMIT_S = float(os.environ.get("FAULT_LIMIT_S", "0.3"))
# Numeric libraries read this once, when they are imported.
THREADS_AT_IMPORT = os.environ.get("OMP_NUM_THREADS")


@task
def fine(x: int = 1) -> int:
    return x


@task
def echo(text: str) -> str:
    return text


@task(timeout=30)
def steady(ms: int) -> int:
    """Burn CPU time."""
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass
    return os.getpid()


@task(timeout=1)
def brief() -> None:
    """Work for a moment; if the process is stopped, the limit soon ends the job."""
    steady(10)


@task
def where() -> dict[str, object]:
    job = offload.current_job()
    assert job is not None
    return {"pid": os.getpid(), "lane": job.lane, "id": job.id}


@task
def segfault() -> None:
    ctypes.string_at(0)


@task
def abort() -> None:
    os.abort()


@task
def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task
def leave(code: int = 0) -> None:
    os._exit(code)


@task
def system_exit() -> None:
    sys.exit(3)


@task
def close_everything() -> None:
    os.closerange(0, 4096)


@task(timeout=LIMIT_S)
def stop_self() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@task(timeout=LIMIT_S)
def endless() -> None:
    while True:
        pass


@task(timeout=LIMIT_S)
def endless_in_c() -> None:
    """Hold the GIL: `ctypes.PyDLL` does not release it."""
    ctypes.PyDLL(None).sleep(1000)


@task(timeout=LIMIT_S)
def deaf() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


@task(timeout=LIMIT_S)
def swallow() -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


@task
def grandchild_holds_channel(mode: str) -> int:
    """Fork a child that inherits every descriptor, the channel included; then die, or return its id."""
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
        os._exit(0)
    if mode == "die":
        os._exit(7)
    return pid


@task(timeout=LIMIT_S)
def grandchild_leaves_group() -> None:
    """Fork twice into a new session that burns a core, and run into the limit."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                pass
        os._exit(0)
    while True:
        pass


@task
def grandchild_left_behind_by_crash() -> None:
    if os.fork() == 0:
        os.setsid()
        time.sleep(1000)
        os._exit(0)
    os._exit(9)


@task
def die_while_sending() -> bytes:
    def die() -> None:
        # The result does not fit the socket's buffer, so sending it takes longer than this timer.
        os.kill(os.getpid(), signal.SIGKILL)

    size = 400_000_000
    threading.Timer(0.05, die).start()
    return bytes(size)


@task
def garbage_on_channel() -> None:
    for descriptor in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                os.write(descriptor, b"\xffgarbage" * 100)
        except OSError:
            continue
    time.sleep(5)


@task
def noise() -> str:
    line = "x" * 99
    for _ in range(100_000):
        print(line)
    os.write(2, b"without an end")
    return "done"


@task(memory="200MB")
def hog() -> int:
    data = bytearray()
    while len(data) < 4_000_000_000:
        data += b"x" * 1_000_000
        time.sleep(0.001)
    return len(data)


@task(memory="200MB")
def hog_in_child() -> None:
    if os.fork() == 0:
        data = bytearray(b"x" * 600_000_000)
        time.sleep(1000)
        os._exit(len(data))
    time.sleep(1000)


class Unprintable(Exception):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


@task
def unprintable() -> None:
    raise Unprintable


@task
def raises(message: str = "no") -> None:
    if message:
        raise KeyError(message)


@task
def unserialisable() -> object:
    return object()


@task
def open_file() -> object:
    return {"file": io.BytesIO(b"lines\n")}


@task(timeout=LIMIT_S)
def endless_iterator() -> object:
    return filter(None, itertools.repeat(0))


@task
def recursion() -> None:
    recursion()


@task
def stack_overflow() -> None:
    """Recurse in C until a small stack overflows; newer Pythons stop such calls after some thousands."""
    sys.setrecursionlimit(10**9)
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    threading.stack_size(64 << 10)
    thread = threading.Thread(target=repr, args=(nested,))
    thread.start()
    thread.join()


@task
def child_returns() -> int:
    """Return on both sides of a fork; the child's answer must be ignored."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return 0 if pid else 1


@task
def set_session() -> str:
    os.setsid()
    return "new"


@task(timeout=LIMIT_S)
def child_sets_session() -> None:
    if os.fork() == 0:
        os.setsid()
        while True:
            pass
    while True:
        pass


@task(timeout=20)
def wait_for_signal(trace: str = "") -> None:
    """Write the process's id to a file and wait to be killed."""
    if trace:
        mark(trace, os.getpid())
    time.sleep(15)


@task(retries=2)
def dies_twice(path: str) -> int:
    """Die in the first two attempts, which a file counts."""
    with open(path, "a") as file:
        file.write("x")
    attempts = os.path.getsize(path)
    if attempts < 3:
        os._exit(1)
    job = offload.current_job()
    assert job is not None
    return job.attempt


@task
def leave_orphans() -> None:
    """They end by themselves, some after this job."""
    for _ in range(5):
        os.system("sleep 0.01 & true &")


@task
def lower_hard_limit() -> None:
    """Nothing can raise it again: root's privilege to do so is given up first."""
    import resource

    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for position in (0, 1):
        sets[position] &= ~(1 << 24)  # CAP_SYS_RESOURCE, effective and permitted
    libc.capset(header, sets)
    resource.setrlimit(resource.RLIMIT_NPROC, (10_000, 10_000))


@task
def is_loaded(module: str) -> bool:
    return module in sys.modules


@task
def leave_alarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.01)


@task
def break_output() -> None:
    sys.stdout.close()
    os.close(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 2)


@task
def prints(text: str) -> None:
    print(text)
    os.write(1, b"by write\n")


@task
def environment(name: str) -> str | None:
    return os.environ.get(name)


@task
def threads_at_import() -> str | None:
    return THREADS_AT_IMPORT


@task
def own_pool() -> list[int]:
    """Use multiprocessing in a task."""
    import multiprocessing

    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        return pool.map(abs, [-1, -2, 3])


@task
def pool_at_work(method: str) -> None:
    """Die while processes of a pool work, with a block of shared memory."""
    import multiprocessing
    from multiprocessing.shared_memory import SharedMemory

    context = multiprocessing.get_context(method)
    SharedMemory(create=True, size=1 << 20)
    pool = context.Pool(2)
    for call in [pool.apply_async(os.getpid) for _ in range(8)]:
        call.get()
    pool.map_async(time.sleep, [1000, 1000], chunksize=1)
    os._exit(9)


@task
def loky_at_work() -> None:
    """The same with the processes of joblib."""
    executor = import_module("loky").get_reusable_executor(2)
    executor.submit(os.getpid).result()
    for _ in range(2):
        executor.submit(time.sleep, 1000)
    os._exit(9)


@task
def mark(path: str, number: int, ms: int = 0) -> int:
    """Append a line to a file, in one write, to record that the job has begun."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"%d\n" % number)
    os.close(descriptor)
    if ms:
        time.sleep(ms / 1000)
    return number
