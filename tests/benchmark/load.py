"""The load generator: `python -m tests.benchmark.load PLAN` puts load on a server of this machine and prints a result.

Lives here: a closed loop of callers, each with one connection that is kept, and bytes that are encoded once.  A
process of its own, so that its CPU time can be told from the server's; it stops by itself.  `children` starts it; plan
and result travel as JSON.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, cast

import orjson

from tests.benchmark.answers import AnswerShape, read_answer
from tests.benchmark.event_loop import loop_factory
from tests.benchmark.figures import Percentiles

HOST: Final = "127.0.0.1"

# For requests that are on their way when the time is over; what is not answered then counts as lost.
LAST_ANSWERS_S: Final = 10.0

_CONNECT_S: Final = 10.0
_NS_PER_MS: Final = 1e6
_NS_PER_S: Final = 1e9
_US_PER_S: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send: POST with a `body`, GET without.  Ends after `seconds` or `max_requests`, whatever comes first.

    Each connection sends its next request `pause_s` after the last answer.
    """

    port: int
    path: str
    body: str | None = None
    connections: int = 64
    seconds: float = 2.0
    max_requests: int = 1_000_000
    pause_s: float = 0.0

    def request(self) -> bytes:
        """The bytes of the one request that is sent again and again."""
        method = "GET" if self.body is None else "POST"
        body = (self.body or "").encode()
        lines = [f"{method} {self.path} HTTP/1.1", f"Host: {HOST}:{self.port}", "Accept: */*"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What came back.  `seconds` from the first request to the last answer.  `cpu_s` is the generator's own CPU time,
    `kernel_cpu_s` what of it the kernel took for sending and receiving, which no generator can do without.

    `statuses` counts answers, by status; `lost` are requests whose connection ended, or that got no answer in time.
    """

    statuses: dict[str, int]
    lost: int
    seconds: float
    latency: Percentiles
    cpu_s: float
    kernel_cpu_s: float

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        fields = orjson.loads(data)
        return cls(**{**fields, "latency": Percentiles(**fields["latency"])})

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())

    @property
    def answers_per_s(self) -> float:
        return self.answers / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> dict[str, int]:
        """Everything but 200, by status, and what was lost."""
        failures = {status: count for status, count in self.statuses.items() if status != "200"}
        return {**failures, "lost": self.lost} if self.lost else failures

    @property
    def cpu_share(self) -> float:
        """How much of one core the generator used: near 1 it was the bottleneck itself."""
        return self.cpu_s / self.seconds if self.seconds else 0.0

    @property
    def kernel_share(self) -> float:
        """How much of the generator's CPU time was the kernel's."""
        return self.kernel_cpu_s / self.cpu_s if self.cpu_s else 0.0

    @property
    def cpu_us_per_answer(self) -> float:
        """What an answer cost the generator, which stands in line for the same cores."""
        return self.cpu_s * _US_PER_S / max(self.answers, 1)


class Load:
    """One run of a plan: what all callers share."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.request = plan.request()
        self.shape = AnswerShape()
        self._statuses: Counter[int] = Counter()
        self._latencies_ns: list[int] = []
        self._lost = 0
        self._unsent = plan.max_requests
        self._end_ns = 0
        self._last_answer_ns = 0
        self._callers: set[_Caller] = set()
        self._is_over = asyncio.Event()

    async def run(self) -> LoadResult:
        """Raises OSError when the server cannot be connected to."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                for _ in range(self.plan.connections):
                    await loop.create_connection(lambda: _Caller(self), HOST, self.plan.port)
            return await self._measure()
        finally:
            for caller in list(self._callers):
                caller.abort()

    def joined(self, caller: _Caller) -> None:
        self._callers.add(caller)

    def left(self, caller: _Caller, *, lost: bool) -> None:
        self._callers.discard(caller)
        self._lost += lost
        if not self._callers:
            self._is_over.set()

    def may_send(self, now_ns: int) -> bool:
        """Whether time and number allow one more request; true takes it."""
        if self._unsent <= 0 or now_ns >= self._end_ns:
            return False
        self._unsent -= 1
        return True

    def answered(self, status: int, sent_ns: int, now_ns: int) -> None:
        self._last_answer_ns = now_ns
        self._statuses[status] += 1
        self._latencies_ns.append(now_ns - sent_ns)

    async def _measure(self) -> LoadResult:
        began, began_ns = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter_ns()
        self._end_ns = began_ns + int(self.plan.seconds * _NS_PER_S)
        for caller in list(self._callers):
            caller.send_next()
        try:
            async with asyncio.timeout(self.plan.seconds + LAST_ANSWERS_S):
                await self._is_over.wait()
        except TimeoutError:
            self._lost += sum(caller.is_waiting for caller in self._callers)
        ended = resource.getrusage(resource.RUSAGE_SELF)
        kernel_cpu_s = ended.ru_stime - began.ru_stime
        return LoadResult(
            statuses={str(status): count for status, count in sorted(self._statuses.items())},
            lost=self._lost,
            seconds=max(self._last_answer_ns - began_ns, 0) / _NS_PER_S,
            latency=Percentiles.of(duration_ns / _NS_PER_MS for duration_ns in self._latencies_ns),
            cpu_s=ended.ru_utime - began.ru_utime + kernel_cpu_s,
            kernel_cpu_s=kernel_cpu_s,
        )


class _Caller(asyncio.Protocol):
    """One connection.  It sends a request as soon as the last one is answered, and leaves when it may not."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport
        self._received = b""
        self._sent_ns = 0
        self._pause: asyncio.TimerHandle | None = None
        self.is_waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._load.left(self, lost=self.is_waiting)
        self.is_waiting = False

    def send_next(self, now_ns: int | None = None) -> None:
        self._pause = None
        now_ns = time.perf_counter_ns() if now_ns is None else now_ns
        if not self._load.may_send(now_ns):
            self._transport.close()
            return
        self.is_waiting = True
        self._sent_ns = now_ns
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        # What happens for each answer: kept short, because the load stands in line for the system's cores.
        now_ns = time.perf_counter_ns()
        load = self._load
        if not self._received and load.shape.matches(data):
            status = load.shape.status
        else:
            self._received = data = self._received + data
            try:
                answer = read_answer(data)
            except ValueError:
                self.abort()
                return
            if answer is None:
                return
            self._received = b""
            status, length = answer
            if length == len(data):
                load.shape.learn(data)
        self.is_waiting = False
        load.answered(status, self._sent_ns, now_ns)
        if load.plan.pause_s:
            self._pause = asyncio.get_running_loop().call_later(load.plan.pause_s, self.send_next)
        else:
            self.send_next(now_ns)

    def abort(self) -> None:
        self._transport.abort()


def main(arguments: list[str]) -> int:
    """Carries out the plan that the one argument holds, and prints the result.  Returns the exit code."""
    load_plan: dict[str, Any] = orjson.loads(arguments[0])
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            result = runner.run(_run(LoadPlan(**load_plan)))
        except OSError as error:
            print(f"tests.benchmark.load: the server cannot be connected to: {error}", file=sys.stderr)
            return 1
    sys.stdout.buffer.write(orjson.dumps(asdict(result)))
    return 0


async def _run(plan: LoadPlan) -> LoadResult:
    return await Load(plan).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
