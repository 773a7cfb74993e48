"""The files for clusters run existing programs with existing options, and their numbers agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from offload.settings.sources import load_settings
from offload.settings.table import Settings
from tests.deploy.files import DEPLOY
from tests.deploy.test_numbers import AFTER_DRAIN_S
from tests.support.packages import needed_package

ENGINES = ["dask", "ray"]
PACKAGES = {"dask": "distributed", "ray": "ray"}
PROGRAMS = {
    ("dask", "scheduler"): "from distributed.cli.dask_scheduler import main; main()",
    ("dask", "worker"): "from distributed.cli.dask_worker import main; main()",
    ("ray", "start"): "from ray.scripts.scripts import main; main()",
}


def compose(engine: str) -> str:
    return (DEPLOY / engine / "compose.yaml").read_text()


def commands(engine: str) -> list[list[str]]:
    """Returns the commands that run beside the service, without `tini`."""
    found = [json.loads(text) for text in re.findall(r"entrypoint: (\[.*\])", compose(engine))]
    shells = [text.split(" && ")[0].split() for text in re.findall(r'command: \["(ray .*)"\]', compose(engine))]
    return [command[2:] for command in found if command[2] != "sh"] + shells


@pytest.mark.parametrize("engine", ENGINES)
def test_the_image_installs_the_extra_of_the_engine(engine: str) -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    (asked,) = project["optional-dependencies"][engine]
    assert f'pip install --no-cache-dir "{asked}"' in (DEPLOY / engine / "Containerfile").read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_service_has_the_address_of_its_cluster(engine: str) -> None:
    environment = dict(re.findall(r'^ {6}(OFFLOAD_\w+): "(.*)"$', compose(engine), re.MULTILINE))
    settings = load_settings({}, environment)
    assert settings == Settings(engine=engine, engine_address=settings.engine_address)  # type: ignore[arg-type]
    ports = {command[command.index("--port") + 1] for command in commands(engine) if "--port" in command}
    assert {settings.engine_address.rpartition(":")[2]} == ports


@pytest.mark.parametrize("engine", ENGINES)
def test_the_service_has_time_to_drain(engine: str) -> None:
    (grace_s,) = re.findall(r"stop_grace_period: (\d+)s", compose(engine))
    assert float(grace_s) >= Settings().drain_timeout + AFTER_DRAIN_S
    assert f'"{Settings().port}:{Settings().port}"' in compose(engine)


@pytest.mark.cluster
@pytest.mark.parametrize("engine", ENGINES)
def test_the_programs_have_the_options_that_are_used(engine: str, tmp_path: Path) -> None:
    needed_package(PACKAGES[engine], f"deploy/{engine} is NOT tested (pip install '.[{engine}]')")
    assert len(commands(engine)) == 2
    for program, verb, *arguments in commands(engine):
        code = [sys.executable, "-c", PROGRAMS[program, verb], *([verb] if program == "ray" else []), "--help"]
        help_text = subprocess.run(code, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
        known = set(re.findall(r"--[a-z-]+", help_text))
        assert {word for word in arguments if word.startswith("--")} <= known
