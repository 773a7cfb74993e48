"""What a load generator sends, and when. A plan travels to the generator as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Self

import orjson

HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Each of `connections` callers sends its next request `pause_s` after the answer to the last one."""

    connections: int = 64
    pause_s: float = 0.0
    max_requests: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Requests come at random instants, `rate_per_s` on average, answered or not; a caller waits for `patience_s`."""

    rate_per_s: float
    patience_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """One caller sends random bodies of `body_bytes` one after another, at least `min_answers` of them.

    The first answer is not measured but compared with what was sent.
    """

    body_bytes: int
    min_answers: int = 1


Schedule = Closed | Open | Echo
_SCHEDULES: Final[dict[str, type[Schedule]]] = {"closed": Closed, "open": Open, "echo": Echo}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """POST with a `body`, GET without, for `seconds`."""

    port: int
    path: str
    schedule: Schedule = Closed()
    body: str | None = None
    seconds: float = 2.0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """One flat object: the fields of the plan and those of its schedule, which is closed unless it is named."""
        fields = orjson.loads(text)
        schedule = _SCHEDULES[fields.pop("schedule", "closed")]
        own = {name: fields.pop(name) for name in ("port", "path", "body", "seconds") if name in fields}
        return cls(**own, schedule=schedule(**fields))

    def to_json(self) -> str:
        schedule = asdict(self.schedule)
        return orjson.dumps({**asdict(self), **schedule, "schedule": type(self.schedule).__name__.lower()}).decode()


def encode_request(plan: LoadPlan, body: bytes | None, *headers: str) -> bytes:
    """The bytes of the one request that is sent again and again."""
    lines = [f"{'GET' if body is None else 'POST'} {plan.path} HTTP/1.1", f"Host: {HOST}:{plan.port}", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")
