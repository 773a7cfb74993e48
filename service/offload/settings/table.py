"""The settings: one frozen object, made once, and the one table of what each may be.

Lives here: every setting with its unit, range, default and reason.  No input or output: `cli.sources` reads the command
line, the environment and the file by this table, and `--help` and the README's table are printed from it.  Names carry
no unit because they are also those of flags, variables and keys: durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from offload.errors import SettingsError
from offload.settings.kinds import GIB, MIB, Choice, Count, Seconds, Size, Switch, Text, Values, shown

# What we set in the environment of our own processes: a service that a task starts sees them, and they are no settings.
PRIVATE_VARIABLES: Final = frozenset({"OFFLOAD_DRIVER", "OFFLOAD_PRELOAD", "OFFLOAD_TREE"})

MAX_WORKERS: Final = 1024
_MAX_UNIX_PATH_BYTES: Final = 107  # unix(7): sun_path has 108 bytes, one of them for the NUL


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


def _row(values: Values, help: str, reason: str) -> dict[str, Any]:
    return {"values": values, "help": help, "reason": reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set.  Making one checks every range: SettingsError tells all that is wrong."""

    host: str = field(
        default="127.0.0.1",
        metadata=_row(
            Text("a host name or IP address", r"[^\s/\0]+", 253, placeholder="HOST"),
            "Address to listen on.",
            "Nobody outside this machine reaches it before somebody decides so.",
        ),
    )
    port: int = field(
        default=8080,
        metadata=_row(
            Count(0, 65_535, zero="any free port"),
            "TCP port to listen on.",
            "The usual one of a service behind a proxy.",
        ),
    )
    uds: str | None = field(
        default=None,
        metadata=_row(
            Text(
                f"a path of at most {_MAX_UNIX_PATH_BYTES} bytes",
                r"[^\0]+",
                _MAX_UNIX_PATH_BYTES,
                is_optional=True,
                placeholder="PATH",
            ),
            "Unix socket to listen on as well.",
            "A proxy on the same machine saves the TCP stack.",
        ),
    )
    root_path: str = field(
        default="",
        metadata=_row(
            Text(
                'empty, or a path such as "/compute" without a "/" at its end',
                r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*",
                1024,
                placeholder="PREFIX",
            ),
            "Path under which a proxy publishes the service; links begin with it.",
            "Without a proxy the service stands at the root.",
        ),
    )
    engine: EngineName = field(
        default=EngineName.SUPERVISED,
        metadata=_row(
            Choice(EngineName),
            "What runs the jobs.",
            "It keeps all promises; what the others keep stands in the section on engines.",
        ),
    )
    executor: str = field(
        default="",
        metadata=_row(
            Text(
                "empty, or a module and a function in it, such as package.module:function",
                r"([^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*)?",
                1024,
                placeholder="FACTORY",
            ),
            "For the engine `executor`: called with the number of workers, it makes the `concurrent.futures.Executor`.",
            "A `ProcessPoolExecutor` needs no other package, and its work can be stopped.",
        ),
    )
    engine_address: str = field(
        default="",
        metadata=_row(
            Text(
                "empty, or the address of a cluster, such as tcp://scheduler:8786", r"\S*", 1024, placeholder="ADDRESS"
            ),
            "For the engines `dask` and `ray`: the cluster; empty for one of their own, of `--workers` processes.",
            "A cluster on this machine needs nothing but the package.",
        ),
    )
    workers: int = field(
        default=0,
        metadata=_row(
            Count(0, MAX_WORKERS, zero="as many as CPUs that this process may use, or as the cluster has"),
            "Worker processes, each of which runs one job at a time; of a cluster at an address, the most to use.",
            "CPU work is done soonest with one worker for each CPU.",
        ),
    )
    spares: int = field(
        default=0,
        metadata=_row(
            Count(0, 1024),
            "Workers beyond that number, which stand by, warm, to replace one that dies.",
            "A replacement takes some milliseconds anyway, and a spare costs memory.",
        ),
    )
    start_method: StartMethod = field(
        default=StartMethod.FORKSERVER,
        metadata=_row(
            Choice(StartMethod),
            "How worker processes are made.",
            "Fast, with the task modules loaded once, and a worker is never a copy of the service.",
        ),
    )
    timeout: float = field(
        default=60.0,
        metadata=_row(
            Seconds(0.001),
            "Limit on the run time of a job whose task sets none.",
            "About as long as proxies and clients wait unless told otherwise.",
        ),
    )
    start_timeout: float = field(
        default=60.0,
        metadata=_row(
            Seconds(0.1),
            "Limit on the start of a worker, loading the task modules and all start hooks included.",
            "Loading a large model takes tens of seconds; a hook that hangs should be told of, too.",
        ),
    )
    body_timeout: float = field(
        default=30.0,
        metadata=_row(
            Seconds(0.1),
            "Limit on the arrival of a request's body.",
            "Slow clients must not collect; the largest body has time at 1 MiB a second.",
        ),
    )
    drain_timeout: float = field(
        default=30.0,
        metadata=_row(
            Seconds(0.0),
            "Time that accepted jobs have to finish after SIGTERM; then they are stopped with an answer.",
            "Kubernetes kills after 30 s unless told otherwise.",
        ),
    )
    queue_limit: int = field(
        default=1000,
        metadata=_row(
            Count(1, 1_000_000),
            "Jobs that may wait for a worker; further ones are refused.",
            "A burst is taken, while waiting stays shorter than callers' patience.",
        ),
    )
    queue_bytes: int = field(
        default=256 * MIB,
        metadata=_row(
            Size(1, 1024 * GIB),
            "Memory for bodies that arrive or wait, and results that leave; a single larger one may be there alone.",
            "Eight of the largest bodies, which fits any machine that runs them.",
        ),
    )
    max_queued_per_client: int = field(
        default=0,
        metadata=_row(
            Count(0, 1_000_000, zero="no limit"),
            "Jobs of one caller that may wait; further ones are refused with 429.",
            "Behind a proxy everybody may be one address, see --client-header.",
        ),
    )
    max_running_per_client: int = field(
        default=0,
        metadata=_row(
            Count(0, 1024, zero="no limit"),
            "Jobs of one caller that may run at once; further ones wait.",
            "A single caller should have the whole machine while nobody else wants it.",
        ),
    )
    client_header: str = field(
        default="",
        metadata=_row(
            Text("empty, or a header's name", r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)?", 100, placeholder="NAME"),
            "Header whose last entry names the caller, instead of the address; only behind a proxy that sets it.",
            "Anybody can send a header.",
        ),
    )
    quarantine_after: int = field(
        default=3,
        metadata=_row(
            Count(0, 1000, zero="never"),
            "A job of which so many attempts in a row have each killed their worker is refused for ten minutes.",
            "Two may be chance; the third in a row is a pattern.",
        ),
    )
    max_body: int = field(
        default=32 * MIB,
        metadata=_row(
            Size(1, GIB),
            "Largest body of a request.",
            "A large photograph or a million numbers; more is a decision about memory.",
        ),
    )
    max_jobs_per_worker: int = field(
        default=0,
        metadata=_row(
            Count(0, 1_000_000_000, zero="never"),
            "A worker that has run so many jobs is replaced.",
            "A task that leaks is the exception.",
        ),
    )
    max_rss_per_worker: int = field(
        default=0,
        metadata=_row(
            Size(MIB, 1024 * GIB, zero="never"),
            "A worker that holds more memory than this after a job is replaced.",
            "A task that leaks is the exception.",
        ),
    )
    threads_per_worker: int = field(
        default=1,
        metadata=_row(
            Count(0, 1024, zero="leave the libraries' own choice"),
            "Threads of numeric libraries in a worker (OMP_NUM_THREADS and its kin, where they are not set already).",
            "Each worker has one CPU; a thread for every CPU in each of them is slower.",
        ),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_row(
            Choice(LogLevel),
            "Least important messages that are logged.",
            "Refusals and what tasks print are wanted as long as nothing is wrong.",
        ),
    )
    access_log: bool = field(
        default=True,
        metadata=_row(
            Switch(),
            "Log a line for each request.",
            "Whoever asks what happened to a request finds it there.",
        ),
    )
    debug: bool = field(
        default=False,
        metadata=_row(
            Switch(),
            "Show tracebacks in answers.",
            "They tell strangers how the machine looks inside.",
        ),
    )

    def __post_init__(self) -> None:
        faults = []
        for setting in table():
            value = getattr(self, setting.name)
            try:
                object.__setattr__(self, setting.name, setting.values.read(value))
            except (ValueError, OverflowError):
                faults.append(setting.fault(setting.name, value))
        if faults:
            raise SettingsError(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A row of the table: what `name` may be, what it is for, and why its default is what it is."""

    name: str
    default: Any
    values: Values
    help: str
    reason: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "OFFLOAD_" + self.name.upper()

    def fault(self, origin: str, value: object) -> str:
        """The sentence about a value that cannot be; `origin` is the setting's name as the user wrote it."""
        return f"{origin} is {shown(value)}, must be {self.values.range}"


def table() -> Iterator[Setting]:
    """All settings, in the order in which people should read of them."""
    for item in fields(Settings):
        yield Setting(name=item.name, default=item.default, **item.metadata)
