"""Memory that is passed from process to process (`offload.wire.shared_bytes`), in tests."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from offload.wire.shared_bytes import SharedBytes, shared


def shared_memory(pid: int | None = None) -> list[str]:
    """What a process, by default this one, has of it: a line for each descriptor and mapping."""
    process = Path("/proc") / ("self" if pid is None else str(pid))
    held = []
    for name in os.listdir(process / "fd"):
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            held.append(os.readlink(process / "fd" / name))
    held += (process / "maps").read_text().splitlines()
    return [line for line in held if "memfd:offload" in line]


def made(data: bytes, *, is_final: bool = False) -> SharedBytes:
    """`data` in such memory; to be closed."""
    memory = shared(data, is_final=is_final)
    assert memory is not None
    return memory
