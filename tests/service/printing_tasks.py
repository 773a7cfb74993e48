"""Tasks that write in the ways of programs and libraries: prints, bars, loggers, warnings, C code, child processes."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import time
import warnings
from pathlib import Path

from offload import task

FORMAT = "%(levelname)s %(name)s %(message)s"
logging.basicConfig(level=logging.INFO, format=FORMAT)
faulthandler.enable()
BOUND_S = 60


@task
def prints(text: str) -> None:
    sys.stdout.write(text)


@task
def bar() -> None:
    """Draws as progress bars do: on stderr, from the start of the line, and blanks before it ends."""
    for percent in range(0, 101, 5):
        sys.stderr.write(f"\r{percent:3}%|{'█' * (percent // 10):10}|")
        sys.stderr.flush()
    sys.stderr.write("\n")


@task
def slow_bar(released: Path) -> None:
    """Draws half of a bar and waits until a file exists."""
    sys.stderr.write("\r  0%")
    sys.stderr.write("\r 50%")
    sys.stderr.flush()
    end = time.monotonic() + BOUND_S
    while not released.exists() and time.monotonic() < end:
        time.sleep(0.01)
    sys.stderr.write("\r100%\n")


@task
def logs() -> None:
    logging.getLogger("shop").info("two\nlines")
    try:
        raise KeyError("handled")
    except KeyError:
        logging.getLogger("shop").exception("caught")


@task
def warns() -> None:
    warnings.warn("this is old", UserWarning, stacklevel=1)


@task
def writes() -> None:
    sys.stdout.buffer.write(b"raw \xff\n")
    sys.stdout.buffer.flush()
    os.write(1, "é by ".encode()[:1])
    os.write(1, "é by ".encode()[1:] + b"descriptor\n")
    os.system("echo from a shell")
    print("to stderr", file=sys.stderr)
    print("\x1b[31mred\x1b[0m \0 ∑", end="")


@task
def replaces_the_root_logger() -> None:
    logging.basicConfig(level=logging.DEBUG, force=True, stream=sys.stdout, format="%(message)s")
    logging.debug("on stdout now")
    logging.basicConfig(level=logging.INFO, force=True, format=FORMAT)


@task
def aborts() -> None:
    print("before the crash", end="", flush=True)
    os.abort()


@task
def streams() -> list[object]:
    return [[one.isatty(), one.encoding, one.fileno()] for one in (sys.stdout, sys.stderr)]
