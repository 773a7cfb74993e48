"""The load generator of `overload`: `python -m tests.benchmark.open_load PLAN`.

Lives here: an open loop.  Requests are sent at their instants, whether or not earlier ones are answered, as strangers
do; a caller whose budget is over hangs up.  Connections are kept for the next request.  A process of its own, bounded
in time and number; `children` starts it, plan and result travel as JSON.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter, OrderedDict
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final, Self, cast

import orjson

from tests.benchmark.answers import read_answer
from tests.benchmark.event_loop import loop_factory
from tests.benchmark.figures import Percentiles
from tests.benchmark.load import HOST

# So closely instants are kept: to be woken for each request would take as much of the system's cores as to send it.
_TICK_S: Final = 0.001
# More callers than this at a time would be more than a server of this machine ever sees; they count as not answered.
_MOST_CONNECTIONS: Final = 4_000
_MS_PER_S: Final = 1e3
_OK: Final = 200
_REFUSALS: Final = (429, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPlan:
    """POSTs of `body`, at random instants, `per_s` of them on average, for `seconds`; each waits for `budget_s`."""

    port: int
    path: str
    body: str
    per_s: float
    seconds: float
    budget_s: float

    def request(self) -> bytes:
        body = self.body.encode()
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"Host: {HOST}:{self.port}",
            f"Request-Timeout: {self.budget_s:g}",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenResult:
    """What became of `sent` requests: `good` had their 200 in time, `good_by_end` of them while requests still came.

    `statuses` counts all answers that came in time, `given_up` had none.  `refusal` is how long a refusal (429, 503)
    took.
    """

    sent: int
    good: int
    good_by_end: int
    statuses: dict[str, int]
    given_up: int
    served: Percentiles
    refusal: Percentiles
    seconds: float
    cpu_s: float

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        fields = orjson.loads(data)
        return cls(**{**fields, **{name: Percentiles(**fields[name]) for name in ("served", "refusal")}})

    @property
    def good_per_s(self) -> float:
        """Without what is served after the end, out of a queue that was filled before: nobody can do more than all."""
        return self.good_by_end / self.seconds


class OpenLoad:
    """One run of a plan: what all callers share."""

    def __init__(self, plan: OpenPlan) -> None:
        self.plan = plan
        self.request = plan.request()
        self.idle: list[_Caller] = []
        self._statuses: Counter[int] = Counter()
        self._durations_ms: dict[int, list[float]] = {}
        self._callers = 0
        self._waiting: OrderedDict[_Caller, float] = OrderedDict()  # until when, the first first
        self._sent = 0
        self._good_by_end = 0
        self._given_up = 0
        self._is_sending = True

    async def run(self) -> OpenResult:
        """Sends, and waits until nobody waits any more."""
        began_cpu_s, began_s = time.process_time(), time.perf_counter()
        chance = random.Random(0)
        at_s = began_s
        end_s = began_s + self.plan.seconds
        while at_s < end_s:
            now_s = time.perf_counter()
            while at_s <= now_s and at_s < end_s:
                self._send()
                at_s += chance.expovariate(self.plan.per_s)
            self._lose_patience(now_s)
            until_s = next(iter(self._waiting.values()), at_s)
            await asyncio.sleep(max(_TICK_S, min(at_s, until_s) - now_s))
        self._is_sending = False
        while self._waiting:
            await asyncio.sleep(_TICK_S)
            self._lose_patience(time.perf_counter())
        for caller in self.idle:
            caller.abort()
        return OpenResult(
            sent=self._sent,
            good=self._statuses[_OK],
            good_by_end=self._good_by_end,
            statuses={str(status): count for status, count in sorted(self._statuses.items())},
            given_up=self._given_up,
            served=Percentiles.of(self._durations_ms.get(_OK, [])),
            refusal=Percentiles.of(chain.from_iterable(self._durations_ms.get(status, []) for status in _REFUSALS)),
            seconds=self.plan.seconds,
            cpu_s=time.process_time() - began_cpu_s,
        )

    def waits(self, caller: _Caller, sent_s: float) -> None:
        """It has sent a request, and has patience for so long."""
        self._waiting[caller] = sent_s + self.plan.budget_s

    def answered(self, caller: _Caller, status: int, duration_s: float) -> None:
        """It has its answer; one that comes too late is none."""
        if duration_s > self.plan.budget_s:
            self.lost(caller)
            caller.abort()
            return
        if self._waiting.pop(caller, None) is None:
            return
        self._statuses[status] += 1
        self._good_by_end += status == _OK and self._is_sending
        self._durations_ms.setdefault(status, []).append(duration_s * _MS_PER_S)
        self.idle.append(caller)

    def lost(self, caller: _Caller) -> None:
        """It gets no answer any more."""
        if self._waiting.pop(caller, None) is not None:
            self._given_up += 1

    def left(self) -> None:
        """A connection is no more."""
        self._callers -= 1

    def _send(self) -> None:
        self._sent += 1
        if self.idle:
            self.idle.pop().send()
        elif self._callers < _MOST_CONNECTIONS:
            self._callers += 1
            caller = _Caller(self)
            caller.connecting = asyncio.create_task(caller.connect())
        else:
            self._given_up += 1

    def _lose_patience(self, now_s: float) -> None:
        """A timer for each request would cost more than the request."""
        while self._waiting:
            caller, until_s = next(iter(self._waiting.items()))
            if until_s > now_s:
                return
            self.lost(caller)
            caller.abort()


class _Caller(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, load: OpenLoad) -> None:
        self.connecting: asyncio.Task[None] | None = None
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._is_given_up = False
        self._received = b""
        self._sent_s = 0.0

    async def connect(self) -> None:
        self._begin()
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, HOST, self._load.plan.port)
        except OSError:
            self._load.lost(self)
            self._load.left()

    def send(self) -> None:
        """The next request, on a connection that stands."""
        self._begin()
        if self._transport is not None:
            self._transport.write(self._load.request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_given_up:
            self._transport.abort()  # its time was over before it was connected
        else:
            self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = read_answer(self._received)
        if answer is not None:
            self._received = b""
            self._load.answered(self, answer[0], time.perf_counter() - self._sent_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self in self._load.idle:
            self._load.idle.remove(self)
        self._load.lost(self)
        self._load.left()

    def abort(self) -> None:
        self._is_given_up = True
        if self._transport is not None:
            self._transport.abort()

    def _begin(self) -> None:
        self._sent_s = time.perf_counter()
        self._load.waits(self, self._sent_s)


def main(arguments: list[str]) -> int:
    """Carries out the plan that the one argument holds, and prints the result.  Returns the exit code."""
    plan: dict[str, Any] = orjson.loads(arguments[0])
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        result = runner.run(_run(OpenPlan(**plan)))
    sys.stdout.buffer.write(orjson.dumps(asdict(result)))
    return 0


async def _run(plan: OpenPlan) -> OpenResult:
    return await OpenLoad(plan).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
