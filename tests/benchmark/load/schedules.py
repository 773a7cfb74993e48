"""Carries out load plans: one class for each schedule."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from typing import Final

from tests.benchmark.errors import BenchError
from tests.benchmark.load.connection import Connection
from tests.benchmark.load.plan import HOST, Closed, Echo, LoadPlan, Open, encode_request
from tests.benchmark.load.result import LoadResult, Tally

# For requests that are under way when the time is up; one that is not answered then is lost.
LAST_ANSWERS_S: Final = 10.0

_CONNECT_S: Final = 10.0
_ECHO_ANSWER_S: Final = 60.0
_JSON: Final = "Content-Type: application/json"
_BYTES: Final = "Content-Type: application/octet-stream"
_OK: Final = 200
_NS_PER_S: Final = 1e9
# The precision of an open schedule: a wake-up for each request would cost the server's cores as much as sending it.
_TICK_S: Final = 0.001
# More than a server of this machine could serve. A request beyond counts as lost.
_MAX_OPEN_CONNECTIONS: Final = 4_000


async def run(plan: LoadPlan) -> LoadResult:
    """Raises OSError if the server cannot be reached, and BenchError for an answer that differs from the body sent."""
    match plan.schedule:
        case Closed():
            return await ClosedLoad(plan, plan.schedule).run()
        case Open():
            return await OpenLoad(plan, plan.schedule).run()
        case Echo():
            return await EchoLoad(plan, plan.schedule).run()


class ClosedLoad:
    """Callers that send their next request after the answer to the last one."""

    def __init__(self, plan: LoadPlan, schedule: Closed) -> None:
        self._plan = plan
        self._schedule = schedule
        body = None if plan.body is None else plan.body.encode()
        self._request = encode_request(plan, body, "Accept: */*", *([] if body is None else [_JSON]))
        self._tally = Tally()
        self._end_ns = 0
        self._last_answer_ns = 0
        self._connections: set[Connection] = set()
        self._has_ended = asyncio.Event()

    async def run(self) -> LoadResult:
        try:
            async with asyncio.timeout(_CONNECT_S):
                for _ in range(self._schedule.connections):
                    connection = Connection(self._request, self)
                    self._connections.add(connection)
                    await _connect(connection, self._plan.port)
            return await self._measure()
        finally:
            for connection in list(self._connections):
                connection.abort()

    async def _measure(self) -> LoadResult:
        self._tally.start()
        began_ns = time.perf_counter_ns()
        self._end_ns = began_ns + int(self._plan.seconds * _NS_PER_S)
        for connection in list(self._connections):
            self._send(connection, time.perf_counter_ns())
        try:
            async with asyncio.timeout(self._plan.seconds + LAST_ANSWERS_S):
                await self._has_ended.wait()
        except TimeoutError:
            self._tally.lost += sum(connection.is_waiting for connection in self._connections)
        return self._tally.result(max(self._last_answer_ns - began_ns, 0) / _NS_PER_S)

    def on_answer(self, connection: Connection, now_ns: int) -> None:
        self._last_answer_ns = now_ns
        self._tally.durations_ns[connection.status].append(now_ns - connection.sent_ns)
        if self._schedule.pause_s:
            asyncio.get_running_loop().call_later(self._schedule.pause_s, self._send_after_pause, connection)
        else:
            self._send(connection, now_ns)

    def on_closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._tally.lost += connection.is_waiting
        if not self._connections:
            self._has_ended.set()

    def _send_after_pause(self, connection: Connection) -> None:
        if connection in self._connections:
            self._send(connection, time.perf_counter_ns())

    def _send(self, connection: Connection, now_ns: int) -> None:
        if self._tally.sent < self._schedule.max_requests and now_ns < self._end_ns:
            self._tally.sent += 1
            connection.send(now_ns)
        else:
            connection.close()


class EchoLoad:
    """One caller that sends large bodies and gets them back."""

    def __init__(self, plan: LoadPlan, schedule: Echo) -> None:
        self._plan = plan
        self._schedule = schedule
        self._body = random.Random(0).randbytes(schedule.body_bytes)
        self._connection = Connection(encode_request(plan, self._body, _BYTES), self, keeps_body=True)
        self._tally = Tally()
        self._answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self) -> LoadResult:
        async with asyncio.timeout(_CONNECT_S):
            await _connect(self._connection, self._plan.port)
        try:
            await self._exchange()
            if b"".join(self._connection.body) != self._body:
                raise BenchError("the body that came back differs from the one sent")
            self._connection.keeps_body = False
            self._connection.body.clear()
            return await self._measure()
        finally:
            self._connection.abort()

    async def _measure(self) -> LoadResult:
        self._tally.start()
        durations_ns = self._tally.durations_ns[_OK]
        began_ns = now_ns = time.perf_counter_ns()
        while len(durations_ns) < self._schedule.min_answers or now_ns < began_ns + self._plan.seconds * _NS_PER_S:
            self._tally.sent += 1
            now_ns = await self._exchange()
            durations_ns.append(now_ns - self._connection.sent_ns)
        return self._tally.result((now_ns - began_ns) / _NS_PER_S)

    async def _exchange(self) -> int:
        """Returns when the answer came."""
        self._answer = asyncio.get_running_loop().create_future()
        self._connection.send(time.perf_counter_ns())
        try:
            async with asyncio.timeout(_ECHO_ANSWER_S):
                now_ns = await self._answer
        except TimeoutError:
            raise BenchError(f"no answer within {_ECHO_ANSWER_S:g} s") from None
        connection = self._connection
        if connection.status != _OK or connection.body_bytes != self._schedule.body_bytes:
            raise BenchError(f"the answer is not an echo: status {connection.status}, {connection.body_bytes} bytes")
        return now_ns

    def on_answer(self, connection: Connection, now_ns: int) -> None:
        self._answer.set_result(now_ns)

    def on_closed(self, connection: Connection) -> None:
        if connection.is_waiting and not self._answer.done():
            when = "within" if connection.is_within_answer else "before"
            self._answer.set_exception(BenchError(f"the connection ended {when} an answer"))


class OpenLoad:
    """Callers that come whether or not earlier ones are answered. Connections are kept for later requests."""

    def __init__(self, plan: LoadPlan, schedule: Open) -> None:
        self._plan = plan
        self._schedule = schedule
        self._patience_ns = int(schedule.patience_s * _NS_PER_S)
        body = (plan.body or "").encode()
        self._request = encode_request(plan, body, f"Request-Timeout: {schedule.patience_s:g}")
        self._tally = Tally()
        self._connections = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._idle: list[Connection] = []
        self._waiting: OrderedDict[Connection, int] = OrderedDict()  # until when in ns, the earliest first
        self.is_sending = True

    async def run(self) -> LoadResult:
        """Sends, and waits until every request is answered or lost."""
        self._tally.start()
        chance = random.Random(0)
        at_ns = began_ns = time.perf_counter_ns()
        end_ns = began_ns + self._plan.seconds * _NS_PER_S
        while at_ns < end_ns:
            now_ns = time.perf_counter_ns()
            while at_ns <= now_ns and at_ns < end_ns:
                self._send(time.perf_counter_ns())
                at_ns += int(chance.expovariate(self._schedule.rate_per_s) * _NS_PER_S)
            self._lose_patience(now_ns)
            wake_ns = min(at_ns, next(iter(self._waiting.values()), at_ns))
            await asyncio.sleep(max(_TICK_S, (wake_ns - now_ns) / _NS_PER_S))
        self.is_sending = False
        while self._waiting:
            await asyncio.sleep(_TICK_S)
            self._lose_patience(time.perf_counter_ns())
        for task in self._connecting:
            task.cancel()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for connection in self._idle:
            connection.abort()
        return self._tally.result(self._plan.seconds)

    def on_answer(self, connection: Connection, now_ns: int) -> None:
        duration_ns = now_ns - connection.sent_ns
        if duration_ns > self._patience_ns:
            self._lose(connection)
            connection.abort()
        elif self._waiting.pop(connection, None) is not None:
            self._tally.durations_ns[connection.status].append(duration_ns)
            self._tally.served_in_time += connection.status == _OK and self.is_sending
            self._idle.append(connection)

    def on_closed(self, connection: Connection) -> None:
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        self._lose(connection)

    def _send(self, now_ns: int) -> None:
        self._tally.sent += 1
        if self._idle:
            connection = self._idle.pop()
        elif self._connections < _MAX_OPEN_CONNECTIONS:
            self._connections += 1
            connection = Connection(self._request, self)
            task = asyncio.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        else:
            self._tally.lost += 1
            return
        self._waiting[connection] = now_ns + self._patience_ns
        connection.send(now_ns)

    async def _connect(self, connection: Connection) -> None:
        try:
            await _connect(connection, self._plan.port)
        except OSError:
            self.on_closed(connection)

    def _lose_patience(self, now_ns: int) -> None:
        """Hangs up on late answers. One check for all: a timer for each request would cost more than the request."""
        while self._waiting:
            connection, until_ns = next(iter(self._waiting.items()))
            if until_ns > now_ns:
                return
            self._lose(connection)
            connection.abort()

    def _lose(self, connection: Connection) -> None:
        if self._waiting.pop(connection, None) is not None:
            self._tally.lost += 1


async def _connect(connection: Connection, port: int) -> None:
    await asyncio.get_running_loop().create_connection(lambda: connection, HOST, port)
