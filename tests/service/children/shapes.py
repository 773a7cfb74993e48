"""Tasks that start processes in all the usual ways. The test serves copies of this file, and runs one as a program."""

from __future__ import annotations

import asyncio
import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from offload import task

PLACE = "file"  # the copies differ in this line, and so in the names of their tasks


def placed(function: Callable[..., Any]) -> Callable[..., Any]:
    return task(name=f"{PLACE}-{function.__name__}", timeout=60)(function)


def context_of(method: str) -> Any:
    return mp.get_context(method or None)


@dataclass(frozen=True)
class Square:
    side: int


class Refused(Exception):
    pass


def grow(square: Square) -> Square:
    if square.side < 0:
        raise Refused(square)
    return Square(square.side + 1)


def leave(code: int) -> None:
    os._exit(code)


def crash() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait() -> None:
    signal.pause()


def about(queue: Any) -> None:
    """Send what a child sees of itself and of its parent, and an object of this file."""
    parent = mp.parent_process()
    names = [mp.current_process().name.rpartition("-")[0], parent and parent.name]
    queue.put([*names, os.path.basename(sys.argv[0]), sys.stdin.read(), Square(2)])


def write(memory: Any, number: Any, lock: Any) -> None:
    with lock:
        memory.buf[:4] = b"mine"
        number.value += 1


def nested(square: Square) -> Square:
    with mp.get_context("fork").Pool(1) as pool:
        return pool.map(grow, [square])[0]


@placed
def pool(method: str = "") -> list[object]:
    """Also a pool that replaces its processes after each call, and one that is ended in the middle of a call."""
    context = context_of(method)
    with context.Pool(1, maxtasksperchild=1) as workers:
        grown = workers.map(grow, [Square(1), Square(2)], chunksize=1)
        try:
            workers.apply(grow, [Square(-1)])
        except Refused as error:
            grown += error.args
        workers.apply_async(wait)
    return [grown == [Square(2), Square(3), Square(-1)], str(grown[0])]


@placed
def executor(method: str = "") -> list[object]:
    with ProcessPoolExecutor(1, mp_context=context_of(method)) as workers:
        grown = list(workers.map(grow, [Square(1), Square(2)]))
        error = workers.submit(grow, Square(-1)).exception()
    return [grown == [Square(2), Square(3)], isinstance(error, Refused)]


@placed
def broken_executor(method: str = "") -> list[object]:
    with ProcessPoolExecutor(1, mp_context=context_of(method)) as workers:
        error = workers.submit(leave, 3).exception()
    return [type(error).__name__, isinstance(error, BrokenProcessPool)]


@placed
def process(method: str = "") -> list[object]:
    context = context_of(method)
    queue = context.SimpleQueue()
    child = context.Process(target=about, args=[queue], daemon=True)
    child.start()
    *facts, square = queue.get()
    child.join()
    return [*facts, square == Square(2), child.exitcode]


@placed
def exit_codes(method: str = "") -> list[object]:
    context = context_of(method)
    children = [context.Process(target=leave, args=[3]), context.Process(target=crash), context.Process(target=wait)]
    for child in children:
        child.start()
    children[-1].terminate()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


@placed
def shared(method: str = "") -> list[object]:
    context = context_of(method)
    memory: Any = SharedMemory(create=True, size=4)
    number, lock = context.Value("i", 1), context.Lock()
    child = context.Process(target=write, args=[memory, number, lock])
    child.start()
    child.join()
    found = bytes(memory.buf[:4]).decode()
    memory.close()
    memory.unlink()
    return [found, number.value, child.exitcode]


@placed
def manager(method: str = "") -> list[object]:
    with context_of(method).Manager() as server:
        values = server.list([Square(1)])
        values.append(Square(2))
        return [list(values) == [Square(1), Square(2)]]


@placed
def grandchildren(method: str = "") -> list[object]:
    with ProcessPoolExecutor(1, mp_context=context_of(method)) as workers:
        return [workers.submit(nested, Square(1)).result() == Square(2)]


@placed
def joblib() -> list[object]:
    library: Any = import_module("joblib")
    grown = library.Parallel(n_jobs=2)(library.delayed(grow)(Square(side)) for side in range(2))
    return [grown == [Square(1), Square(2)]]


@placed
def closure() -> list[object]:
    queue = mp.get_context("fork").SimpleQueue()
    child = mp.get_context("fork").Process(target=lambda: queue.put(Square(1)))
    child.start()
    received = queue.get()
    child.join()
    return [received == Square(1), child.exitcode]


@placed
def forked() -> list[object]:
    """A buffer that is filled before a fork is written once."""
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, b"from the child")
        os._exit(3)
    received = os.read(reader, 100).decode()
    os.close(reader)
    os.close(writer)
    return [received, os.waitstatus_to_exitcode(os.wait()[1])]


@placed
def commands() -> list[object]:
    """Their standard input is empty."""
    done = subprocess.run("echo out; echo err >&2; cat; exit 3", shell=True, capture_output=True, text=True)
    return [done.returncode, done.stdout, done.stderr, subprocess.run(["cat"]).returncode]


@placed
def event_loop() -> list[object]:
    async def run() -> list[object]:
        child = await asyncio.create_subprocess_exec("echo", "out", stdout=subprocess.PIPE)
        output, _ = await child.communicate()
        loop = asyncio.get_running_loop()
        with ProcessPoolExecutor(1) as workers, ThreadPoolExecutor(1) as threads:
            grown = [await loop.run_in_executor(where, grow, Square(1)) for where in (workers, threads)]
        return [output.decode(), child.returncode, grown == [Square(2), Square(2)]]

    return asyncio.run(run())


@placed
def surroundings() -> list[object]:
    """What libraries look at before they start processes."""
    current = mp.current_process()
    names = [current.name, current.daemon, mp.parent_process(), mp.get_start_method(), len(mp.active_children())]
    return [*names, os.path.basename(sys.argv[0])]


@placed
def lose_forkserver() -> bool:
    """Kill the process that `multiprocessing` keeps for the next pool, and wait until it has ended."""
    pid = vars(forkserver)["_forkserver"]._forkserver_pid
    os.kill(pid, signal.SIGKILL)
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT) is not None


METHODS = ("fork", "spawn", "forkserver")
ROWS: list[tuple[str, dict[str, str]]] = [
    ("surroundings", {}),
    *(("pool", {"method": method}) for method in ("", *METHODS)),
    *(("executor", {"method": method}) for method in ("", *METHODS)),
    *(("process", {"method": method}) for method in METHODS),
    *(("exit_codes", {"method": method}) for method in METHODS),
    *(("shared", {"method": method}) for method in METHODS),
    *(("manager", {"method": method}) for method in ("fork", "forkserver")),
    *(("grandchildren", {"method": method}) for method in ("fork", "spawn")),
    ("broken_executor", {}),
    ("joblib", {}),
    ("closure", {}),
    ("forked", {}),
    ("commands", {}),
    ("event_loop", {}),
]

if __name__ == "__main__":
    print(json.dumps([globals()[name](**arguments) for name, arguments in ROWS]))
