"""The settings: one frozen object, made once, and the one table of what each may be.

Lives here: every setting with its unit, range, default and reason.  No input or output: `cli.sources` reads the command
line, the environment and the file by this table, and `--help` and the README's table are printed from it.  Names carry
no unit because they are also those of flags, variables and keys: durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, TypeVar

from offload.errors import SettingsError
from offload.settings.kinds import GIB, MIB, Choice, Count, Kind, Seconds, Size, Switch, Text, shown

# What we set in the environment of our own processes: a service that a task starts sees them, and they are no settings.
PRIVATE_VARIABLES: Final = frozenset({"OFFLOAD_DRIVER", "OFFLOAD_PRELOAD", "OFFLOAD_TREE"})

MAX_WORKERS: Final = 1024
_MAX_PATH_BYTES: Final = 107  # unix(7): sun_path has 108 bytes, one of them for the NUL

_PATH: Final = r"[^\0]+"
_PATH_RANGE: Final = f"a path of at most {_MAX_PATH_BYTES} bytes"
_PREFIX: Final = r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*"
_PREFIX_RANGE: Final = 'empty, or a path such as "/compute" without a "/" at its end'
_FACTORY: Final = r"([^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*)?"
_FACTORY_RANGE: Final = "empty, or a module and a function in it, such as package.module:function"
_ADDRESS_RANGE: Final = "empty, or the address of a cluster, such as tcp://scheduler:8786"
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
    """How worker processes are made."""

    FORKSERVER = "forkserver"
    SPAWN = "spawn"
    FORK = "fork"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _setting(kind: Kind[T], *, help: str, reason: str) -> T:
    """A field of `Settings`; `kind` has its default and its range."""
    return field(default=kind.default, metadata={"kind": kind, "help": help, "reason": reason})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set.  Making one checks every range: SettingsError tells all that is wrong."""

    host: str = _setting(
        Text("127.0.0.1", placeholder="HOST", range="a host name or IP address", pattern=r"[^\s/\0]+", max_bytes=253),
        help="Address to listen on.",
        reason="Nobody outside this machine reaches it before somebody decides so.",
    )
    port: int = _setting(
        Count(8080, minimum=0, maximum=65_535, zero="any free port"),
        help="TCP port to listen on.",
        reason="The usual one of a service behind a proxy.",
    )
    uds: str | None = _setting(
        Text(None, placeholder="PATH", range=_PATH_RANGE, pattern=_PATH, max_bytes=_MAX_PATH_BYTES, nothing="none"),
        help="Unix socket to listen on as well.",
        reason="A proxy on the same machine saves the TCP stack.",
    )
    root_path: str = _setting(
        Text("", placeholder="PREFIX", range=_PREFIX_RANGE, pattern=_PREFIX),
        help="Path under which a proxy publishes the service; links begin with it.",
        reason="Without a proxy the service stands at the root.",
    )
    engine: EngineName = _setting(
        Choice(EngineName.SUPERVISED),
        help="What runs the jobs.",
        reason="It keeps all promises; what the others keep stands in the section on engines.",
    )
    executor: str = _setting(
        Text("", placeholder="FACTORY", range=_FACTORY_RANGE, pattern=_FACTORY),
        help="For the engine `executor`: called with the number of workers, makes the `concurrent.futures.Executor`.",
        reason="A `ProcessPoolExecutor` needs no other package, and its work can be stopped.",
    )
    engine_address: str = _setting(
        Text("", placeholder="ADDRESS", range=_ADDRESS_RANGE, pattern=r"\S*"),
        help="For the engines `dask` and `ray`: the cluster; empty for one of their own, of `--workers` processes.",
        reason="A cluster on this machine needs nothing but the package.",
    )
    workers: int = _setting(
        Count(
            0, minimum=0, maximum=MAX_WORKERS, zero="as many as CPUs that this process may use, or as the cluster has"
        ),
        help="Worker processes, each of which runs one job at a time; of a cluster at an address, the most to use.",
        reason="CPU work is done soonest with one worker for each CPU.",
    )
    spares: int = _setting(
        Count(0, minimum=0, maximum=1024),
        help="Workers beyond that number, which stand by, warm, to replace one that dies.",
        reason="A replacement takes some milliseconds anyway, and a spare costs memory.",
    )
    start_method: StartMethod = _setting(
        Choice(StartMethod.FORKSERVER),
        help="How worker processes are made.",
        reason="Fast, with the task modules loaded once, and a worker is never a copy of the service.",
    )
    threads_per_worker: int = _setting(
        Count(1, minimum=0, maximum=1024, zero="leave the libraries' own choice"),
        help="Threads of numeric libraries in a worker (OMP_NUM_THREADS and its kin, where they are not set already).",
        reason="Each worker has one CPU; a thread for every CPU in each of them is slower.",
    )
    max_jobs_per_worker: int = _setting(
        Count(0, minimum=0, maximum=1_000_000_000, zero="never"),
        help="A worker that has run so many jobs is replaced.",
        reason="A task that leaks is the exception.",
    )
    max_rss_per_worker: int = _setting(
        Size(0, minimum=MIB, maximum=1024 * GIB, zero="never"),
        help="A worker that holds more memory than this after a job is replaced.",
        reason="A task that leaks is the exception.",
    )
    timeout: float = _setting(
        Seconds(60.0, minimum=0.001),
        help="Limit on the run time of a job whose task sets none.",
        reason="About as long as proxies and clients wait unless told otherwise.",
    )
    start_timeout: float = _setting(
        Seconds(60.0, minimum=0.1),
        help="Limit on the start of a worker, loading the task modules and all start hooks included.",
        reason="Loading a large model takes tens of seconds; a hook that hangs should be told of, too.",
    )
    body_timeout: float = _setting(
        Seconds(30.0, minimum=0.1),
        help="Limit on the arrival of a request's body.",
        reason="Slow clients must not collect; the largest body has time at 1 MiB a second.",
    )
    drain_timeout: float = _setting(
        Seconds(30.0, minimum=0.0),
        help="Time that accepted jobs have to finish after SIGTERM; then they are stopped with an answer.",
        reason="Kubernetes kills after 30 s unless told otherwise.",
    )
    queue_limit: int = _setting(
        Count(1000, minimum=1, maximum=1_000_000),
        help="Jobs that may wait for a worker; further ones are refused.",
        reason="A burst is taken, while waiting stays shorter than callers' patience.",
    )
    queue_bytes: int = _setting(
        Size(256 * MIB, minimum=1, maximum=1024 * GIB),
        help="Memory for bodies that arrive or wait, and results that leave; a single larger one may be there alone.",
        reason="Eight of the largest bodies, which fits any machine that runs them.",
    )
    max_body: int = _setting(
        Size(32 * MIB, minimum=1, maximum=GIB),
        help="Largest body of a request.",
        reason="A large photograph or a million numbers; more is a decision about memory.",
    )
    max_queued_per_client: int = _setting(
        Count(0, minimum=0, maximum=1_000_000, zero="no limit"),
        help="Jobs of one caller that may wait; further ones are refused with 429.",
        reason="Behind a proxy everybody may be one address, see --client-header.",
    )
    max_running_per_client: int = _setting(
        Count(0, minimum=0, maximum=1024, zero="no limit"),
        help="Jobs of one caller that may run at once; further ones wait.",
        reason="A single caller should have the whole machine while nobody else wants it.",
    )
    client_header: str = _setting(
        Text("", placeholder="NAME", range="empty, or a header's name", pattern=_HEADER_NAME, max_bytes=100),
        help="Header whose last entry names the caller, instead of the address; only behind a proxy that sets it.",
        reason="Anybody can send a header.",
    )
    quarantine_after: int = _setting(
        Count(3, minimum=0, maximum=1000, zero="never"),
        help="A job of which so many attempts in a row have each killed their worker is refused for ten minutes.",
        reason="Two may be chance; the third in a row is a pattern.",
    )
    log_level: LogLevel = _setting(
        Choice(LogLevel.INFO),
        help="Least important messages that are logged.",
        reason="Refusals and what tasks print are wanted as long as nothing is wrong.",
    )
    access_log: bool = _setting(
        Switch(True),
        help="Log a line for each request.",
        reason="Whoever asks what happened to a request finds it there.",
    )
    debug: bool = _setting(
        Switch(False),
        help="Show tracebacks in answers.",
        reason="They tell strangers how the machine looks inside.",
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
    """A row of the table: what `name` may be, what it is for, and why its default is what it is."""

    name: str
    kind: Kind[Any]
    help: str
    reason: str

    @property
    def default(self) -> str:
        """As people read it."""
        return self.kind.show(self.kind.default)

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "OFFLOAD_" + self.name.upper()

    def fault(self, origin: str, value: object) -> str:
        """The sentence about a value that cannot be; `origin` is the setting's name as the user wrote it."""
        return f"{origin} is {shown(value)}, must be {self.kind.range}"


def table() -> Iterator[Setting]:
    """All settings, in the order in which people should read of them."""
    for item in fields(Settings):
        yield Setting(name=item.name, **item.metadata)
