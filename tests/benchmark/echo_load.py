"""The load generator of `payload`: `python -m tests.benchmark.echo_load PLAN` sends large bodies and takes them back.

Lives here: one caller with one connection, who sends a body, reads the answer into memory that is there already, and
sends again.  Blocking, so that it costs little more than the kernel's copies.  The first answer is compared with what
was sent, the later ones have the right length.  A process of its own; `children` starts it.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Final, Self

import orjson

from tests.benchmark.load import HOST

_ANSWER_S: Final = 60.0
_OK: Final = b"HTTP/1.1 200 "
_HEAD_BYTES: Final = 65_536
_BYTES_PER_MB: Final = 1e6


class EchoError(Exception):
    """The answer is not what was sent; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoPlan:
    """One body after the other until `seconds` are over, `least` of them at least."""

    port: int
    path: str
    body_bytes: int
    seconds: float
    least: int = 1

    def head(self) -> bytes:
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            "Content-Type: application/octet-stream",
            f"Content-Length: {self.body_bytes}",
        ]
        return "\r\n".join([*lines, "", ""]).encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoResult:
    """`answers` bodies that came back, in `seconds`; `cpu_s` is the generator's own CPU time."""

    answers: int
    body_bytes: int
    seconds: float
    cpu_s: float

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        return cls(**orjson.loads(data))

    @property
    def mb_per_s(self) -> float:
        """Of bodies, counted once: each goes there and back."""
        return self.answers * self.body_bytes / self.seconds / _BYTES_PER_MB


class EchoCaller:
    """One connection, one body that is sent and the memory in which it comes back."""

    def __init__(self, plan: EchoPlan) -> None:
        self._plan = plan
        self._body = random.Random(0).randbytes(plan.body_bytes)
        self._came = bytearray(plan.body_bytes)
        self._socket = socket.create_connection((HOST, plan.port), timeout=_ANSWER_S)

    def close(self) -> None:
        self._socket.close()

    def run(self) -> EchoResult:
        """Raises EchoError, and OSError where nothing comes for too long."""
        self._exchange()
        if self._came != self._body:
            raise EchoError("another body came back than was sent")
        answers = 0
        began_cpu_s, began_s = time.process_time(), time.perf_counter()
        while answers < self._plan.least or time.perf_counter() - began_s < self._plan.seconds:
            self._exchange()
            answers += 1
        return EchoResult(
            answers=answers,
            body_bytes=self._plan.body_bytes,
            seconds=time.perf_counter() - began_s,
            cpu_s=time.process_time() - began_cpu_s,
        )

    def _exchange(self) -> None:
        # A server may answer before it has read all; who only sent would wait for it as it waits for him.
        sender = threading.Thread(target=self._send, daemon=True)
        sender.start()
        self._receive()
        sender.join()

    def _send(self) -> None:
        try:
            self._socket.sendall(self._plan.head())
            self._socket.sendall(self._body)
        except OSError:
            pass  # the receiving end says so, too

    def _receive(self) -> None:
        data, part = b"", memoryview(bytearray(_HEAD_BYTES))
        while b"\r\n\r\n" not in data:
            received_bytes = self._receive_into(part)
            if not received_bytes:
                raise EchoError("the connection ended before an answer")
            data += part[:received_bytes]
        head, _, first = data.partition(b"\r\n\r\n")
        length = f"\r\ncontent-length: {self._plan.body_bytes}\r\n".encode()
        if not head.startswith(_OK) or length not in head.lower() + b"\r\n":
            raise EchoError(f"the answer is no echo: {head[:200].decode('latin-1')}")
        came = memoryview(self._came)
        came[: len(first)] = first
        place = len(first)
        while place < len(came):
            received_bytes = self._receive_into(came[place:])
            if not received_bytes:
                raise EchoError("the connection ended within an answer")
            place += received_bytes

    def _receive_into(self, place: memoryview) -> int:
        """How many bytes came, none at the connection's end.  A server that leaves bytes of ours unread resets it."""
        try:
            return self._socket.recv_into(place)
        except ConnectionResetError:
            return 0


def main(arguments: list[str]) -> int:
    """Carries out the plan that the one argument holds, and prints the result.  Returns the exit code."""
    try:
        caller = EchoCaller(EchoPlan(**orjson.loads(arguments[0])))
        try:
            result = caller.run()
        finally:
            caller.close()
    except (EchoError, OSError) as error:
        print(f"tests.benchmark.echo_load: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
