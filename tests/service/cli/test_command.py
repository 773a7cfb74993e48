"""The command line, up to the start of the service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from offload import __version__, service
from offload.cli import main
from offload.errors import BindError, TargetError
from offload.settings.table import Settings, table

Served = list[tuple[list[str], Settings]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Records what the service is asked to serve; it ends at once."""
    calls: Served = []

    def run(targets: list[str], settings: Settings) -> int:
        calls.append((targets, settings))
        return 0

    monkeypatch.setattr(service, "run", run)
    for name in [name for name in os.environ if name.startswith("OFFLOAD_")]:
        monkeypatch.delenv(name)
    return calls


def test_importing_the_command_line_is_cheap() -> None:
    """Spawned child processes import it again."""
    code = "import sys, offload.cli; print(sorted({'argparse', 'asyncio', 'aiohttp', 'logging'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_module_runs_as_the_command_does() -> None:
    output = subprocess.check_output([sys.executable, "-m", "offload", "--version"], text=True)
    assert output == f"offload {__version__}\n"


def test_targets_and_flags_may_be_mixed(served: Served) -> None:
    assert main(["serve", "a.py", "--workers", "2", "package.b", "--debug", "--no-access-log"]) == 0
    assert served == [(["a.py", "package.b"], Settings(workers=2, debug=True, access_log=False))]


def test_variables_and_a_file_are_read(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "offload.toml"
    config.write_text("spares = 1")
    monkeypatch.setenv("OFFLOAD_PORT", "9000")
    assert main(["serve", "a.py", "--config", str(config)]) == 0
    assert served == [(["a.py"], Settings(port=9000, spares=1))]


def test_help_shows_every_setting_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    output = capsys.readouterr().out
    assert [
        setting.flag for setting in table() if f"{setting.flag} " not in output and f"{setting.flag}," not in output
    ] == []
    assert re.findall(r"^(\w[\w ]*):$", output, re.MULTILINE) == [
        "positional arguments",
        "options",
        "address",
        "workers",
        "time limits",
        "queue and callers",
        "log",
    ]


@pytest.mark.parametrize(
    "arguments", [[], ["serv"], ["serve"], ["serve", "a.py", "--wokers", "1"], ["serve", "--port"]]
)
def test_wrong_usage_is_an_error_with_exit_code_2(
    served: Served, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert "error: " in capsys.readouterr().err
    assert served == []


def test_an_unknown_option_is_an_error_with_a_suggestion(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "a.py", "--queue-limits", "3"]) == 2
    assert capsys.readouterr().err.endswith("error: unknown option '--queue-limits'; did you mean '--queue-limit'?\n")
    assert served == []


def test_faulty_settings_are_a_sentence_each_with_exit_code_2(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "a.py", "--port", "x", "--start-method", "thread"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "offload: --port must be a whole number from 0 to 65535 (0 = any free port), not 'x'",
        "offload: --start-method must be one of forkserver, spawn, fork, not 'thread'",
    ]
    assert served == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TargetError("a.py", "no such file"), "offload: a.py: no such file\n"),
        (BindError("127.0.0.1:80", "permission denied"), "offload: cannot listen on 127.0.0.1:80: permission denied\n"),
    ],
)
def test_other_mistakes_of_the_user_are_a_sentence_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    def run(targets: list[str], settings: Settings) -> int:
        raise error

    monkeypatch.setattr(service, "run", run)
    assert main(["serve", "a.py"]) == 1
    assert capsys.readouterr().err == message


def test_an_interrupt_before_serving_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(targets: list[str], settings: Settings) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(service, "run", run)
    assert main(["serve", "a.py"]) == 130
    assert capsys.readouterr().err == ""
