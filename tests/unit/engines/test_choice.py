"""The choice of the engine by the settings, and the errors if it cannot be used."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from offload.engines import choice
from offload.engines.base import ServedEngine
from offload.errors import SettingsError
from offload.metrics.layout import WorkerRows
from offload.service import Service
from offload.settings.table import MAX_WORKERS, Settings


def made(**settings: Any) -> ServedEngine:
    """Returns the engine without starting anything. Raises SettingsError."""
    service = Service(["tasks"], Settings(**settings))
    return choice.make_engine(
        settings=service.settings,
        workers=1,
        launcher=service._launcher,
        load=service._load,
        metrics=WorkerRows(1),
    )


@pytest.mark.parametrize(("engine", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_whose_package_is_missing_says_what_to_install(
    engine: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(SettingsError) as caught:
        made(engine=engine)
    needs = f"--engine {engine} needs the package {package!r}; install it with pip install 'offload[{engine}]'"
    assert str(caught.value) == needs


@pytest.mark.parametrize("engine", ["supervised", "pool", "executor"])
def test_an_address_needs_a_cluster_engine(engine: str) -> None:
    with pytest.raises(SettingsError) as caught:
        made(engine=engine, engine_address="tcp://10.0.0.5:8786")
    fault = f"--engine-address cannot be used with --engine {engine}; remove it, or use --engine dask or ray"
    assert caught.value.faults == (fault,)


def test_a_cluster_at_an_address_is_used_whole_unless_limited() -> None:
    address: dict[str, Any] = {"engine": "dask", "engine_address": "tcp://10.0.0.5:8786"}
    assert Service(["tasks"], Settings(**address))._workers == MAX_WORKERS
    assert Service(["tasks"], Settings(**address, workers=3))._workers == 3
