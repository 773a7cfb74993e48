"""The systemd unit and the Containerfile work with the real programs."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from offload.settings.sources import load_settings
from offload.settings.table import Settings
from tests.deploy.files import (
    CONTAINERFILE,
    README,
    SYSTEMD_UNIT,
    container_command,
    container_environment,
    container_instructions,
    unit_values,
)
from tests.support.service import serving

EXAMPLES = "offload.examples.tasks"


def flags_of(command: list[str]) -> dict[str, str | bool]:
    """Returns the options of an `offload serve` command, by setting."""
    names = [word.removeprefix("--").replace("-", "_") for word in command if word.startswith("--")]
    values = [value for flag, value in pairwise(command) if flag.startswith("--")]
    return dict(zip(names, values, strict=True))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    program = shlex.split(unit_values()["ExecStart"])[0]
    unit = tmp_path / SYSTEMD_UNIT.name
    unit.write_text(SYSTEMD_UNIT.read_text().replace(program, sys.executable))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit], capture_output=True, text=True
    )
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_starts_the_service_with_settings_that_exist() -> None:
    command = shlex.split(unit_values()["ExecStart"])
    assert command[1] == "serve"
    settings = load_settings(flags_of(command), {})
    assert settings == Settings(uds="/run/offload/offload.sock")


def test_the_unit_creates_the_directory_of_its_socket() -> None:
    unit = unit_values()
    uds = load_settings(flags_of(shlex.split(unit["ExecStart"])), {}).uds
    assert uds is not None
    assert Path(uds).parent == Path("/run") / unit["RuntimeDirectory"]


def test_the_unit_does_not_restart_after_an_invalid_setting() -> None:
    failed = subprocess.run(
        [sys.executable, "-m", "offload", "serve", EXAMPLES, "--workers", "many"], capture_output=True
    )
    assert unit_values()["RestartPreventExitStatus"] == str(failed.returncode)


def test_the_service_in_the_container_is_reachable_from_outside() -> None:
    command = container_command("ENTRYPOINT")
    environment = {name: value for name, value in container_environment().items() if name.startswith("OFFLOAD_")}
    assert command == ["tini", "--", "offload", "serve"]
    assert load_settings({}, environment) == Settings(host="0.0.0.0")


def test_the_container_runs_as_an_unprivileged_user() -> None:
    assert container_instructions("USER") == ["offload"]
    assert "--uid 10001 " in CONTAINERFILE.read_text()
    assert "runAsUser: 10001" in README.read_text()


async def test_the_health_check_of_the_container_passes_while_the_service_runs() -> None:
    [python, *arguments] = container_command("HEALTHCHECK")
    assert python == "python"
    async with serving(*container_command("CMD"), "--workers", "1") as service:
        port = service.base.rpartition(":")[2]
        check = [sys.executable, *arguments]
        assert subprocess.run(check, env={"OFFLOAD_PORT": port}).returncode == 0
    assert subprocess.run(check, env={"OFFLOAD_PORT": port}, capture_output=True).returncode == 1
