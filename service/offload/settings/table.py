"""The settings: one frozen object, and the table of their ranges and defaults.

The command line, the environment and the file are read with this table (see `sources`), and `--help` and the table in
the documentation are made from it. Durations are in seconds and sizes in bytes. Names have no unit because flags,
variables and keys share them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from offload.errors import SettingsError
from offload.settings.kinds import GIB, MIB, Choice, Count, Kind, Seconds, Size, Switch, Text, shown

# Set for the service's own processes; these are not settings. A service that a task starts inherits them.
PRIVATE_VARIABLES: Final = frozenset({"OFFLOAD_DRIVER", "OFFLOAD_PRELOAD", "OFFLOAD_TREE"})

MAX_WORKERS: Final = 1024
_MAX_PATH_BYTES: Final = 107  # unix(7): sun_path has 108 bytes, including the final NUL

_PATH: Final = r"[^\0]+"
_PATH_RANGE: Final = f"a path of at most {_MAX_PATH_BYTES} bytes"
_PREFIX: Final = r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*"
_PREFIX_RANGE: Final = 'a path such as "/compute" without a final "/", or empty'
_FACTORY: Final = r"([^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*)?"
_FACTORY_RANGE: Final = "a function, such as package.module:function, or empty"
_ADDRESS_RANGE: Final = "the address of a cluster, such as tcp://scheduler:8786, or empty"
_HEADER_NAME: Final = r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)?"  # RFC 9110, section 5.6.2: a token

T = TypeVar("T")


class EngineName(StrEnum):
    """Where jobs run."""

    SUPERVISED = "supervised"
    POOL = "pool"
    EXECUTOR = "executor"
    DASK = "dask"
    RAY = "ray"


class StartMethod(StrEnum):
    """How worker processes are started."""

    FORKSERVER = "forkserver"
    SPAWN = "spawn"
    FORK = "fork"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _setting(kind: Kind[T], *, help: str, reason: str) -> T:
    """Returns a field of `Settings`. `kind` holds its default and its range."""
    return field(default=kind.default, metadata={"kind": kind, "help": help, "reason": reason})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a service. Raises SettingsError, with every fault, if a value is out of its range."""

    host: str = _setting(
        Text("127.0.0.1", placeholder="HOST", range="a host name or IP address", pattern=r"[^\s/\0]+", max_bytes=253),
        help="Address to listen on.",
        reason="Only this machine can reach the service until you decide otherwise.",
    )
    port: int = _setting(
        Count(8080, minimum=0, maximum=65_535, zero="any free port"),
        help="TCP port to listen on.",
        reason="The usual port of a service behind a proxy.",
    )
    uds: str | None = _setting(
        Text(None, placeholder="PATH", range=_PATH_RANGE, pattern=_PATH, max_bytes=_MAX_PATH_BYTES, nothing="none"),
        help="Unix socket to listen on as well.",
        reason="Most proxies use TCP; one on the same machine can save the TCP stack.",
    )
    root_path: str = _setting(
        Text("", placeholder="PREFIX", range=_PREFIX_RANGE, pattern=_PREFIX),
        help="Path under which a proxy publishes the service; links in answers begin with it.",
        reason="Without a proxy the service is at the root.",
    )
    engine: EngineName = _setting(
        Choice(EngineName.SUPERVISED),
        help="What runs the jobs.",
        reason="The only engine that keeps every promise.",
    )
    executor: str = _setting(
        Text("", placeholder="FACTORY", range=_FACTORY_RANGE, pattern=_FACTORY),
        help="For `--engine executor`: called with the number of workers; returns a `concurrent.futures.Executor`.",
        reason="A `ProcessPoolExecutor` needs no other package, and its work can be stopped.",
    )
    engine_address: str = _setting(
        Text("", placeholder="ADDRESS", range=_ADDRESS_RANGE, pattern=r"\S*"),
        help="For `--engine dask` or `ray`: the cluster to use. If empty, one of `--workers` processes is started.",
        reason="A local cluster needs nothing but the package.",
    )
    workers: int = _setting(
        Count(0, minimum=0, maximum=MAX_WORKERS, zero="one for each usable CPU, or as many as the cluster has"),
        help="Number of workers; each runs one job at a time. With `--engine-address`, the most that are used.",
        reason="CPU-bound work finishes soonest with one worker for each CPU.",
    )
    spares: int = _setting(
        Count(0, minimum=0, maximum=1024),
        help="Warm workers beyond `--workers`, each ready to replace one that dies.",
        reason="A replacement takes only milliseconds anyway, and a spare costs memory.",
    )
    start_method: StartMethod = _setting(
        Choice(StartMethod.FORKSERVER),
        help="How worker processes are started.",
        reason="Starts are fast because task modules are loaded once, and no worker is a copy of the service.",
    )
    threads_per_worker: int = _setting(
        Count(1, minimum=0, maximum=1024, zero="left to the libraries"),
        help="Threads of numeric libraries in each worker (OMP_NUM_THREADS and similar, where they are not set).",
        reason="There is one worker for each CPU; more threads would compete for it.",
    )
    max_jobs_per_worker: int = _setting(
        Count(0, minimum=0, maximum=1_000_000_000, zero="never"),
        help="Replace a worker after this many jobs.",
        reason="Few tasks leak memory.",
    )
    max_rss_per_worker: int = _setting(
        Size(0, minimum=MIB, maximum=1024 * GIB, zero="never"),
        help="Replace a worker that holds more memory than this after a job.",
        reason="Few tasks leak memory.",
    )
    timeout: float = _setting(
        Seconds(60.0, minimum=0.001),
        help="Limit on the run time of a job whose task sets none.",
        reason="About as long as proxies and clients wait by default.",
    )
    start_timeout: float = _setting(
        Seconds(60.0, minimum=0.1),
        help="Limit on the start of a worker, including the import of task modules and all start hooks.",
        reason="Loading a large model takes tens of seconds; a hook that hangs must still be reported.",
    )
    body_timeout: float = _setting(
        Seconds(30.0, minimum=0.1),
        help="Limit on the time a request's body takes to arrive.",
        reason="Slow clients must not pile up; the largest body arrives in time at 1.1 MiB/s.",
    )
    drain_timeout: float = _setting(
        Seconds(30.0, minimum=0.0),
        help="Time for admitted jobs to finish after SIGTERM; the others are then stopped, and their callers answered.",
        reason="Kubernetes kills 30 s after SIGTERM by default.",
    )
    queue_limit: int = _setting(
        Count(1000, minimum=1, maximum=1_000_000),
        help="Jobs that may wait for a worker; further ones are rejected.",
        reason="Absorbs bursts without making callers wait too long.",
    )
    queue_bytes: int = _setting(
        Size(256 * MIB, minimum=1, maximum=1024 * GIB),
        help="Memory for arriving and waiting bodies and for results being sent; a larger body is accepted alone.",
        reason="Eight of the largest bodies; fits any machine that runs them.",
    )
    max_body: int = _setting(
        Size(32 * MIB, minimum=1, maximum=GIB),
        help="Largest body of a request.",
        reason="Enough for a large photograph or a million numbers, and small beside the memory of a server.",
    )
    max_queued_per_client: int = _setting(
        Count(0, minimum=0, maximum=1_000_000, zero="no limit"),
        help="Jobs of one caller that may wait; further ones are rejected with 429.",
        reason="Behind a proxy all callers may share one address; see `--client-header`.",
    )
    max_running_per_client: int = _setting(
        Count(0, minimum=0, maximum=1024, zero="no limit"),
        help="Jobs of one caller that may run at once; further ones wait.",
        reason="One caller may use the whole machine while others do not need it.",
    )
    client_header: str = _setting(
        Text("", placeholder="NAME", range="the name of a header, or empty", pattern=_HEADER_NAME, max_bytes=100),
        help="Header whose last entry identifies the caller instead of the address. Use it only if a proxy sets it.",
        reason="Any client can send a header; only one that a proxy sets can be trusted.",
    )
    quarantine_after: int = _setting(
        Count(3, minimum=0, maximum=1000, zero="never"),
        help="Reject a job for ten minutes after this many attempts in a row have killed their worker.",
        reason="Two may be chance; three in a row are a pattern.",
    )
    log_level: LogLevel = _setting(
        Choice(LogLevel.INFO),
        help="Least severe messages to log.",
        reason="Shows rejections and what tasks print.",
    )
    access_log: bool = _setting(
        Switch(True),
        help="Log a line for each request.",
        reason="The log then shows what became of each request.",
    )
    debug: bool = _setting(
        Switch(False),
        help="Include tracebacks in answers.",
        reason="Tracebacks reveal paths and code to callers.",
    )

    def __post_init__(self) -> None:
        faults = []
        for setting in table():
            value = getattr(self, setting.name)
            try:
                object.__setattr__(self, setting.name, setting.kind.read(value))
            except (ValueError, OverflowError):
                faults.append(setting.fault(setting.name, value))
        if faults:
            raise SettingsError(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A row of the table. `help` says what the setting does, `reason` why its default is what it is."""

    name: str
    kind: Kind[Any]
    help: str
    reason: str

    @property
    def default(self) -> str:
        """The default as a text for people."""
        return self.kind.show(self.kind.default)

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "OFFLOAD_" + self.name.upper()

    def fault(self, origin: str, value: object) -> str:
        """Returns the sentence about a value out of range; `origin` is the name as the user wrote it."""
        return f"{origin} must be {self.kind.range}, not {shown(value)}"


def table() -> Iterator[Setting]:
    """Yields the settings in the order of `--help`."""
    for item in fields(Settings):
        yield Setting(name=item.name, **item.metadata)
