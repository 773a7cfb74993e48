"""The usable CPUs by affinity and cgroups of both versions, read from a tree of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from offload.processes.cpus import cpu_quotas, usable_cpus

MOUNT_V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_V1 = "33 25 0:28 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:11 - cgroup cgroup rw,cpu,cpuacct\n"
MOUNT_V1_MEMORY = "34 25 0:29 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.usefixtures("eight_cpus")
def test_without_cgroups_the_affinity_decides(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 8


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 3),
        ("10000 100000", 1),
        ("0 100000", 1),
        ("1600000 100000", 8),
        ("100000 0", 8),
        ("rubbish", 8),
        ("", 8),
    ],
)
def test_a_quota_is_rounded_up_to_whole_cpus(tmp_path: Path, cpu_max: str, expected: int) -> None:
    files = {
        "proc/self/cgroup": "0::/a.slice\n",
        "proc/self/mountinfo": MOUNT_V2,
        "sys/fs/cgroup/a.slice/cpu.max": f"{cpu_max}\n",
    }
    assert usable_cpus(tree(tmp_path, files)) == expected


@pytest.mark.usefixtures("eight_cpus")
def test_the_tightest_ancestor_decides(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b/c\n",
        "proc/self/mountinfo": MOUNT_V2,
        "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/a/b/cpu.max": "200000 100000\n",
        "sys/fs/cgroup/a/b/c/cpu.max": "max 100000\n",
    }
    root = tree(tmp_path, files)
    assert sorted(cpu_quotas(root)) == [2, 3]
    assert usable_cpus(root) == 2


def test_a_container_with_its_own_cgroup_namespace_reads_the_top(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": MOUNT_V2,
        "sys/fs/cgroup/cpu.max": "400000 100000\n",
    }
    assert list(cpu_quotas(tree(tmp_path, files))) == [4]


def test_a_process_outside_its_namespace_root_reads_the_top(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/../other\n",
        "proc/self/mountinfo": MOUNT_V2,
        "sys/fs/cgroup/cpu.max": "400000 100000\n",
    }
    assert list(cpu_quotas(tree(tmp_path, files))) == [4]


@pytest.mark.parametrize(
    ("mount_root", "directory"),
    [("/", "sys/fs/cgroup/cpu,cpuacct/docker/x"), ("/docker/x", "sys/fs/cgroup/cpu,cpuacct")],
)
def test_version_1_is_read_with_and_without_the_host_path(tmp_path: Path, mount_root: str, directory: str) -> None:
    files = {
        "proc/self/cgroup": "9:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n0::/\n",
        "proc/self/mountinfo": MOUNT_V1_MEMORY + MOUNT_V1.format(root=mount_root),
        f"{directory}/cpu.cfs_quota_us": "150000\n",
        f"{directory}/cpu.cfs_period_us": "100000\n",
    }
    assert list(cpu_quotas(tree(tmp_path, files))) == [2]


def test_version_1_without_a_quota_limits_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "3:cpu,cpuacct:/\n",
        "proc/self/mountinfo": MOUNT_V1.format(root="/"),
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    assert list(cpu_quotas(tree(tmp_path, files))) == []


def test_this_machine_has_at_least_one_cpu() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
