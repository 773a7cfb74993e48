"""The systems, the order in which they are measured, and what happens if one cannot be measured."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmark import environments, peers
from tests.benchmark.errors import BenchError
from tests.benchmark.figures import Spread
from tests.benchmark.report import Column
from tests.benchmark.rounds import compare, measure_in_rounds, ratio_table
from tests.benchmark.systems import BY_NAME, DEFAULT, OFFLOAD, PEERS, Start, System, baseline
from tests.support.programs import needed_program

START = Start(port=8080, workers=2)


def system(name: str, *, may_fail: bool = False) -> System:
    return System(name=name, command=lambda start: (), may_fail=may_fail)


def test_each_system_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(DEFAULT) + len(PEERS)


def test_without_a_choice_nothing_has_to_be_installed() -> None:
    assert [one.name for one in DEFAULT] == ["bare", "pool", "executor", "offload"]
    assert not any(one.may_fail for one in DEFAULT)


def test_the_service_is_started_with_its_defaults() -> None:
    flags = OFFLOAD.command(START)[5:]
    assert flags == ("--host", "127.0.0.1", "--port", "8080", "--workers", "2")


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_is_pinned_and_has_its_own_file_and_interpreter(peer: System) -> None:
    assert all("==" in requirement for requirement in peer.requirements)
    assert Path(peers.__file__).with_name(f"{peer.name}_server.py").exists()
    command = peer.command(START)
    assert command[0] == str(Path.cwd() / ".bench" / peer.name / "bin" / "python")
    assert command[-3:] == ("noop", "burn", "echo")


def test_each_round_measures_every_system() -> None:
    seen: list[str] = []
    rounds = measure_in_rounds("test", [system("a"), system("b")], 2, lambda one: seen.append(one.name))
    assert seen == ["a", "b", "a", "b"]
    assert rounds.results == {"a": [None, None], "b": [None, None]}


def test_a_system_that_may_fail_is_left_out_of_all_rounds_with_the_reason() -> None:
    tries: list[str] = []

    def measure(one: System) -> str:
        tries.append(one.name)
        if one.may_fail and tries.count("peer") == 2:
            raise BenchError("peer ended unexpectedly; its log ends with:\nTraceback …\nOSError: no port")
        return one.name

    rounds = measure_in_rounds("test", [system("peer", may_fail=True), system("a")], 3, measure)
    assert tries == ["peer", "a", "peer", "a", "a"]
    assert rounds.results == {"a": ["a", "a", "a"]}
    assert rounds.notes() == ["Left out: peer: peer ended unexpectedly; its log ends with: OSError: no port"]


def test_the_service_may_not_fail() -> None:
    def measure(one: System) -> None:
        raise BenchError("does not start")

    with pytest.raises(BenchError, match="does not start"):
        measure_in_rounds("test", [system("a")], 1, measure)


def test_ratios_are_of_the_service_to_each_other_system() -> None:
    results = {"bare": [2.0], "offload": [1.0]}
    assert compare(results, float) == {"bare": Spread(median=0.5, lowest=0.5, highest=0.5)}
    assert ratio_table([Column[float]("size", float, ratio_head="size (less is better)")], results) == (
        "| offload / other | size (less is better) |\n"
        "| --------------- | --------------------- |\n"
        "| bare            | 0.50 (0.50 to 0.50)   |"
    )


def test_an_existing_environment_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is downloaded either."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".bench" / "peer"
    home.mkdir(parents=True)
    (home / "requirements.txt").write_text("\n".join([f"# Python {sys.version}", "package==1", ""]))
    environments.prepare("peer", ["package==1"])
    assert [path.name for path in home.iterdir()] == ["requirements.txt"]


def test_an_environment_that_cannot_be_made_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".bench").write_text("in the way")
    with pytest.raises(BenchError, match=r"installation failed: .*\.bench"):
        environments.prepare("peer", [])


@pytest.fixture
def repository() -> None:
    needed_program("git", "older revisions are NOT tested (apt install git)")
    root = Path(__file__).parents[3]
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, check=False).returncode:
        pytest.skip("the sources are not in a git repository")


@pytest.mark.usefixtures("repository")
def test_an_older_revision_serves_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    system = baseline("HEAD")
    printed = subprocess.run(
        [system.command(START)[0], "-c", "import offload; print(offload.__file__)"],
        env={**os.environ, "PYTHONPATH": system.python_path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(printed.strip()).is_relative_to(tmp_path / ".bench")
    assert baseline("HEAD").python_path == system.python_path  # taken out once


@pytest.mark.usefixtures("repository")
def test_a_revision_that_does_not_exist_is_reported() -> None:
    with pytest.raises(BenchError, match=r"git: .*Needed a single revision"):
        baseline("no-such-revision")
