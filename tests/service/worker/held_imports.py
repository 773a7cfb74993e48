"""Tasks whose module makes at its import what copies of a process would disturb."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import random
import socket
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path

from offload import task

DIRECTORY = Path(os.environ["IMPORTS_DIRECTORY"])
ARGUMENTS = list(sys.argv)
CONNECTION = socket.create_connection(("127.0.0.1", int(os.environ["PEER_PORT"])))
REPLIES = CONNECTION.makefile("r")
DATABASE = sqlite3.connect(DIRECTORY / "words.db", check_same_thread=False)
SCRATCH = tempfile.TemporaryFile(dir=DIRECTORY)  # noqa: SIM115
FOLDER = tempfile.TemporaryDirectory(dir=DIRECTORY)
SEEDED = random.Random(7)
UNSEEDED = random.Random()
random.seed(42)
MANAGED = multiprocessing.Manager().dict(word=1)
CONDITION = threading.Condition()
QUESTIONS: list[int] = []
ANSWERS: list[int] = []


def answer() -> None:
    with CONDITION:
        while True:
            CONDITION.wait_for(lambda: QUESTIONS)
            ANSWERS.append(QUESTIONS.pop() + 1)
            CONDITION.notify_all()


threading.Thread(target=answer, name="answering", daemon=True).start()
with (DIRECTORY / "imported.txt").open("a") as _file:
    print(os.getpid(), file=_file)


@atexit.register
def leave() -> None:
    with (DIRECTORY / "left.txt").open("a") as file:
        print(os.getpid(), file=file)


@task
def facts() -> dict[str, object]:
    with CONDITION:
        QUESTIONS.append(1)
        CONDITION.notify_all()
        CONDITION.wait_for(lambda: ANSWERS)
        answered = ANSWERS.pop()
    SCRATCH.seek(0)
    SCRATCH.write(b"own")
    SCRATCH.seek(0)
    return {
        "arguments": ARGUMENTS,
        "managed": MANAGED["word"],
        "thread": answered,
        "database": DATABASE.execute("select w from words").fetchone()[0],
        "scratch": SCRATCH.read().decode(),
        "folder": Path(FOLDER.name).is_dir(),
    }


@task
def draw() -> dict[str, float | str]:
    """Draw from generators that were not used before; a worker is asked again and again until all are known."""
    return {"pid": os.getpid(), "unseeded": UNSEEDED.random(), "folder": FOLDER.name, **FIRST_DRAWS}


FIRST_DRAWS = {"seeded": random.Random.random(SEEDED), "common": random.random()}


@task
def ask(number: int) -> str:
    """Send a line and read the reply, which is for this line if nobody else uses the connection."""
    CONNECTION.sendall(f"{number}\n".encode())
    return REPLIES.readline()
