"""The compose files of clusters start the service with options that exist, and numbers that agree with its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from offload.cli.sources import load_settings
from offload.settings import EngineName, Settings
from tests.deploy.files import CONTAINERFILE, DEPLOY

DEFAULTS = Settings()
AFTER_DRAIN_S = 15
ENGINES = {"dask": EngineName.DASK, "ray": EngineName.RAY}


def compose(engine: str) -> str:
    return (DEPLOY / engine / "compose.yaml").read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_service_is_told_of_its_engine_and_where_that_is(engine: str) -> None:
    text = re.sub(r'[",\[\]]', " ", compose(engine))
    found = re.search(rf"--engine\s+({engine})\s+--engine-address\s+(\S+)\s+(\S+)", text)
    assert found is not None
    settings = load_settings({"engine": found[1], "engine_address": found[2]}, {})
    assert (settings.engine, settings.engine_address) == (ENGINES[engine], found[2])
    host, _, port = found[2].rpartition("/")[2].partition(":")
    assert re.search(rf"^  {host}:$", compose(engine), re.MULTILINE), f"no part of it is called {host}"
    assert port in compose(engine).replace(found[2], "", 1)
    assert f":{found[3]}:ro" in text, "its tasks are mounted elsewhere"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_service_has_time_to_drain_and_publishes_its_port_alone(engine: str) -> None:
    grace = re.search(r"stop_grace_period: (\d+)s", compose(engine))
    assert grace is not None
    assert int(grace[1]) >= DEFAULTS.drain_timeout + AFTER_DRAIN_S
    assert re.findall(r"^    ports: (.*)", compose(engine), re.MULTILINE) == [f'["{DEFAULTS.port}:{DEFAULTS.port}"]']


@pytest.mark.parametrize("engine", ENGINES)
def test_its_image_is_the_containerfile_s_with_the_engine_s_extra(engine: str) -> None:
    assert f"-f deploy/container/Containerfile --build-arg EXTRA={engine} -t offload-{engine} ." in compose(engine)
    assert set(re.findall(r"^    image: (\S+)", compose(engine), re.MULTILINE)) == {f"offload-{engine}"}
    assert '".${EXTRA:+[$EXTRA]}"' in CONTAINERFILE.read_text()
    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert re.search(rf"^{engine} = \[$", extras, re.MULTILINE)
