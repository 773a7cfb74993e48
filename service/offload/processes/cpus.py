"""Counts the CPUs that this process may use: the least that the machine, its affinity and its cgroups grant.

Reads `/proc` and both versions of cgroups below a root directory, which tests replace. What cannot be read limits
nothing.

Source: sched_setaffinity(2); Documentation/admin-guide/cgroup-v2.rst ("cpu.max") and scheduler/sched-bwc.rst of the
kernel; proc(5) for `mountinfo`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

# Positions in a line of mountinfo: "36 35 98:0 ROOT MOUNT_POINT options… - TYPE SOURCE SUPER_OPTIONS".
_MOUNT_ROOT: Final = 3
_MOUNT_POINT: Final = 4
_TAIL_FIELDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mounted hierarchy of cgroups: its directory `root` is visible at `point`."""

    version: int
    root: PurePosixPath
    point: PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """Returns the number of CPUs that this process may use, at least 1. Part of a CPU counts as one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *cpu_quotas(root)]))


def cpu_quotas(root: Path) -> Iterator[int]:
    """Yields the quota of each cgroup of this process, including ancestors, in CPUs, rounded up."""
    groups = parse_groups(_read(root / "proc/self/cgroup"))
    for mount in parse_mounts(_read(root / "proc/self/mountinfo")):
        group = groups.get(mount.version)
        if group is None:
            continue
        top = root / mount.point.relative_to("/")
        # A container without a cgroup namespace sees the path on the host, but its own group as mount point.
        own = top / group.relative_to(mount.root) if group.is_relative_to(mount.root) else top
        for directory in (own, *(parent for parent in own.parents if parent.is_relative_to(top))):
            quota = _quota_v2(directory) if mount.version == 2 else _quota_v1(directory)  # noqa: PLR2004  # cgroup "v2"
            if quota is not None:
                yield quota


def parse_groups(text: str) -> dict[int, PurePosixPath]:
    """Read `/proc/self/cgroup`; return the group that controls CPU time, by version of cgroups."""
    groups = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def parse_mounts(text: str) -> Iterator[Mount]:
    """Read `/proc/self/mountinfo`; yield the hierarchies that can limit CPU time."""
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        fields, tail_fields = head.split(), tail.split()
        if len(fields) <= _MOUNT_POINT or len(tail_fields) != _TAIL_FIELDS:
            continue
        kind, _, options = tail_fields
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield Mount(
                version=2 if kind == "cgroup2" else 1,
                root=PurePosixPath(fields[_MOUNT_ROOT]),
                point=PurePosixPath(fields[_MOUNT_POINT]),
            )


def _quota_v2(directory: Path) -> int | None:
    """Read `cpu.max`: "quota period" in microseconds, with "max" for no quota."""
    quota, _, period = _read(directory / "cpu.max").strip().partition(" ")
    return _whole_cpus(quota, period)


def _quota_v1(directory: Path) -> int | None:
    """Read two files, in microseconds; a quota of -1 means no quota."""
    return _whole_cpus(_read(directory / "cpu.cfs_quota_us").strip(), _read(directory / "cpu.cfs_period_us").strip())


def _whole_cpus(quota: str, period: str) -> int | None:
    if not quota.isdecimal() or not period.isdecimal() or not int(period):
        return None
    return -(-int(quota) // int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""  # this system does not have the file, or does not allow reading it
