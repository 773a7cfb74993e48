"""What a load has brought back, whatever its schedule. A result travels from the generator as JSON."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Final, Self

import orjson

from tests.benchmark.figures import Percentiles

_OK: Final = 200
_REJECTIONS: Final = (429, 503)
_NS_PER_MS: Final = 1e6
_US_PER_S: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """`statuses` counts the answers by status; `lost` requests have none: the connection ended or time ran out.

    `seconds`: from the first request to the last answer, or while requests were sent if the schedule is open.
    `served_in_time`: answers with 200 while an open schedule still sent requests.
    `latency` is of all answers, `served` of those with 200, `rejected` of those with 429 or 503.
    `cpu_s`: CPU time of the generator.
    """

    statuses: dict[str, int]
    sent: int
    lost: int
    served_in_time: int
    seconds: float
    latency: Percentiles
    served: Percentiles
    rejected: Percentiles
    cpu_s: float

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        fields = orjson.loads(data)
        return cls(**fields | {name: Percentiles(**fields[name]) for name in ("latency", "served", "rejected")})

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())

    @property
    def answers_per_s(self) -> float:
        return self.answers / self.seconds if self.seconds else 0.0

    @property
    def served_in_time_per_s(self) -> float:
        """Without what is served afterwards from a queue that was filled before."""
        return self.served_in_time / self.seconds

    @property
    def failures(self) -> dict[str, int]:
        """Answers other than 200 by status, and lost requests."""
        failures = {status: count for status, count in self.statuses.items() if status != str(_OK)}
        return {**failures, "lost": self.lost} if self.lost else failures

    @property
    def cpu_share(self) -> float:
        """Share of one core that the generator used; close to 1, the generator was the bottleneck."""
        return self.cpu_s / self.seconds if self.seconds else 0.0

    @property
    def cpu_us_per_answer(self) -> float:
        """CPU time of the generator, which competes for the same cores, per answer."""
        return self.cpu_s * _US_PER_S / max(self.answers, 1)


class Tally:
    """Counts of a load that is under way."""

    def __init__(self) -> None:
        self.sent = 0
        self.lost = 0
        self.served_in_time = 0
        self.durations_ns: defaultdict[int, list[int]] = defaultdict(list)  # by status
        self.start()

    def start(self) -> None:
        """Counts CPU time from now on."""
        self._before_s = time.process_time()

    def result(self, seconds: float) -> LoadResult:
        return LoadResult(
            statuses={str(status): len(durations_ns) for status, durations_ns in sorted(self.durations_ns.items())},
            sent=self.sent,
            lost=self.lost,
            served_in_time=self.served_in_time,
            seconds=seconds,
            latency=self._percentiles(*self.durations_ns),
            served=self._percentiles(_OK),
            rejected=self._percentiles(*_REJECTIONS),
            cpu_s=time.process_time() - self._before_s,
        )

    def _percentiles(self, *statuses: int) -> Percentiles:
        durations_ns = chain.from_iterable(self.durations_ns.get(status, ()) for status in statuses)
        return Percentiles.of(duration_ns / _NS_PER_MS for duration_ns in durations_ns)
