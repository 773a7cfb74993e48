"""A worker is killed with everything that it started, and nothing else is."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from offload.processes import killing
from offload.processes.killing import kill_group, kill_strays, kill_trees, send_signal
from offload.processes.proctree import (
    ProcessInfo,
    all_processes,
    descendants,
    has_mark,
    last_pid,
    read,
    rss_bytes,
)
from tests.service.processes.process_trees import are_gone, eventually, state, tree

TREES = {
    "one process": ("sleep()", 1),
    "children": ("child('a'); child('b'); sleep()", 3),
    "grandchildren": ("child('a', lambda: (child('b', lambda: (child('c'), sleep())), sleep())); sleep()", 4),
    "a session of its own": ("child('a', session=True); sleep()", 2),
    "a double fork into a session of its own": (
        "adopt_orphaned_descendants(); child('a', lambda: child('b', session=True)); os.wait(); sleep()",
        3,
    ),
    "every process ignores all signals that it can": (
        "[signal.signal(n, signal.SIG_IGN) for n in signal.valid_signals() - {9, 19, 32, 33}]; child('a'); sleep()",
        2,
    ),
    "every process is stopped": (
        "child('a', lambda: os.kill(os.getpid(), 19)); os.kill(os.getpid(), 19)",
        2,
    ),
}


def start_ticks(pid: int) -> int:
    info = read(pid)
    assert info is not None
    return info.start_ticks


@pytest.mark.parametrize("name", TREES)
def test_a_whole_tree_is_killed(name: str) -> None:
    body, count = TREES[name]
    with tree(body, count=count) as victim, tree("child('a'); sleep()", count=2) as bystander:
        kill_trees({victim.root: start_ticks(victim.root)})
        eventually("all of it is gone", lambda: are_gone(list(victim.pids.values())))
        assert not any(are_gone([pid]) for pid in bystander.pids.values())
        assert victim.process.wait() == -signal.SIGKILL


def test_a_tree_that_grows_while_it_is_killed_is_killed() -> None:
    """A slow fork bomb: a stopped process cannot fork, so the scan catches up with it."""
    body = """
def grow(depth=0):
    for _ in range(2):
        if depth < 7 and os.fork() == 0:
            grow(depth + 1)
    sleep()
grow()
"""
    with tree(body, count=1) as victim:
        eventually("it has grown", lambda: len(descendants({victim.root}, all_processes())) > 5)
        kill_trees({victim.root: start_ticks(victim.root)})
        eventually("its group is empty", lambda: not members(victim.root))


def test_many_trees_take_as_many_scans_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look() -> dict[int, ProcessInfo]:
        looks.append(all_processes())
        return looks[-1]

    monkeypatch.setattr(killing, "all_processes", look)
    with ExitStack() as stack:
        victims = [stack.enter_context(tree("child('a', session=True); sleep()", count=2)) for _ in range(4)]
        kill_trees({victim.root: start_ticks(victim.root) for victim in victims})
        eventually("all are gone", lambda: are_gone([pid for victim in victims for pid in victim.pids.values()]))
    assert len(looks) == 2  # one finds all, one finds nothing new


def test_a_later_process_with_the_same_id_is_spared_with_its_group() -> None:
    with tree("child('a'); sleep()", count=2) as other:
        kill_trees({other.root: start_ticks(other.root) - 1})
        kill_group(other.root, start_ticks(other.root) - 1)
        assert not any(are_gone([pid]) for pid in other.pids.values())


def members(group: int) -> list[int]:
    return [pid for pid, info in all_processes().items() if not info.is_dead and _group_of(pid) == group]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_the_rest_of_a_group_is_killed_after_its_leader_ended() -> None:
    with tree("child('a'); sleep()", count=2) as victim:
        ticks = start_ticks(victim.root)
        victim.process.kill()
        victim.process.wait()
        assert not are_gone([victim.pids["a"]])
        kill_group(victim.root, ticks)
        eventually("it is gone", lambda: are_gone([victim.pids["a"]]))
        kill_group(victim.root, ticks)


def test_marked_strays_are_killed_and_descendants_of_workers_are_spared() -> None:
    """What a dead worker left in another session can only be found by its mark."""
    mark = f"OFFLOAD_TEST_MARK={secrets.token_hex(8)}"
    env = dict([mark.split("=")])
    with (
        tree("child('stray', session=True); os._exit(0)", count=2, env=env) as dead,
        tree("child('helper', session=True); sleep()", count=2, env=env) as worker,
        tree("child('a'); sleep()", count=2, env=env) as forkserver,
        tree("sleep()", count=1) as bystander,
    ):
        dead.process.wait()
        kill_strays(mark.encode(), known={worker.root}, keep={forkserver.root})
        eventually("the strays are gone", lambda: are_gone([dead.pids["stray"], forkserver.pids["a"]]))
        spared = [*worker.pids.values(), forkserver.root, bystander.root]
        assert not any(are_gone([pid]) for pid in spared)


def test_a_signal_to_a_missing_process_is_ignored() -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) as process:
        process.wait()
    send_signal(process.pid, signal.SIGTERM)


# Reading /proc


def test_a_process_is_read_with_its_parent_and_its_state() -> None:
    with tree("child('a'); sleep()", count=2) as one:
        info = read(one.pids["a"])
        assert info is not None
        assert (info.parent, info.is_stopped, info.is_dead) == (one.root, False, False)
        os.kill(one.pids["a"], signal.SIGSTOP)
        eventually("it is stopped", lambda: (now := read(one.pids["a"])) is not None and now.is_stopped)
        os.kill(one.pids["a"], signal.SIGKILL)
        eventually("it is dead", lambda: (now := read(one.pids["a"])) is not None and now.is_dead)
        assert state(one.pids["a"]) == "Z"


def test_a_command_with_parentheses_and_spaces_is_parsed() -> None:
    with tree("open('/proc/self/comm', 'w').write(') R 1 (x'); child('a'); sleep()", count=2) as one:
        info = read(one.root)
        assert info is not None
        assert info.parent == os.getpid()
        assert info.start_ticks > 0
        assert descendants({one.root}, all_processes()) == {one.pids["a"]}


def test_a_missing_process_is_read_as_none() -> None:
    with tree("sleep()", count=1) as one:
        pass
    assert read(one.root) is None
    assert rss_bytes(one.root) == 0
    assert not has_mark(one.root, b"PATH=x")


def test_descendants_do_not_include_the_roots() -> None:
    with tree("child('a', lambda: (child('b'), sleep())); sleep()", count=3) as one:
        processes = all_processes()
        assert descendants({one.root}, processes) == {one.pids["a"], one.pids["b"]}
        assert descendants({one.root, one.pids["a"]}, processes) == {one.pids["b"]}
        assert descendants({one.pids["b"]}, processes) == set()


def test_rss_is_the_resident_memory() -> None:
    with tree("data = b'x' * 50_000_000; child('a'); sleep()", count=2) as one:
        assert rss_bytes(one.root) > 50_000_000


def test_a_new_process_anywhere_is_noticed() -> None:
    before = last_pid()
    with tree("sleep()", count=1):
        assert last_pid() != before


# The holder of the tracker's pipe may be in another session.
TRACKED = """
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=1)
os.write(1, f"{{memory.name}} {{resource_tracker._resource_tracker._pid}}\\n".encode())
child("holder", session={session})
{end}
"""


@pytest.mark.parametrize("end", ["sleep()", "os._exit(0)"])
@pytest.mark.parametrize("session", [False, True])
def test_the_shared_memory_of_what_is_killed_is_unlinked(session: bool, end: str) -> None:
    """Its resource tracker does that, if it is not killed as well."""
    mark = f"OFFLOAD_TEST_MARK={secrets.token_hex(8)}"
    with tree(TRACKED.format(session=session, end=end), count=3, env=dict([mark.split("=")])) as victim:
        (memory,) = victim.pids.keys() - {"root", "holder"}
        if end == "sleep()":
            kill_trees({victim.root: start_ticks(victim.root)})
        else:
            victim.process.wait()
            kill_group(victim.root, start_ticks=0)  # of a process that is gone
        kill_strays(mark.encode(), known=set(), keep=set())
        eventually("all of it is gone", lambda: are_gone(list(victim.pids.values())))
        assert not os.path.exists(f"/dev/shm/{memory}")
