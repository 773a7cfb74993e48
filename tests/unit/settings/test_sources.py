"""Command line, variables, file and defaults: which takes precedence, and how mistakes are reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from offload.errors import SettingsError
from offload.settings.sources import load_settings
from offload.settings.table import PRIVATE_VARIABLES, Settings, StartMethod


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "offload.toml"


def faults(
    flags: dict[str, str | bool] | None = None, environ: dict[str, str] | None = None, config: Path | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load_settings(flags or {}, environ or {}, None if config is None else str(config))
    return list(raised.value.faults)


def test_without_any_source_every_setting_has_its_default() -> None:
    assert load_settings({}, {"HOME": "/", "PATH": ""}) == Settings()


def test_the_command_line_precedes_variables_which_precede_the_file(config: Path) -> None:
    config.write_text('port = 1\nspares = 1\nqueue_limit = 1\nstart-method = "spawn"\n')
    settings = load_settings({"port": "3"}, {"OFFLOAD_PORT": "2", "OFFLOAD_SPARES": "2"}, str(config))
    assert (settings.port, settings.spares, settings.queue_limit) == (3, 2, 1)
    assert settings.start_method is StartMethod.SPAWN


def test_the_file_can_be_named_by_a_variable(config: Path) -> None:
    config.write_text('max_body = "1MB"')
    assert load_settings({}, {"OFFLOAD_CONFIG": str(config)}).max_body == 1_000_000


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings({}, {"OFFLOAD_HOST": "", "OFFLOAD_UDS": ""}) == Settings()


def test_faults_of_all_sources_are_reported_together_with_the_name_as_written(config: Path) -> None:
    config.write_text("queue-limit = 0\nworker = 2\n")
    assert faults({"max_body": "1 mile"}, {"OFFLOAD_PORT": "http", "OFFLOAD_TIMEOUTS": "1"}, config) == [
        f"queue-limit in {config} must be a whole number from 1 to 1000000, not 0",
        f"unknown setting 'worker' in {config}; did you mean 'workers'?",
        "OFFLOAD_PORT must be a whole number from 0 to 65535 (0 = any free port), not 'http'",
        "unknown variable 'OFFLOAD_TIMEOUTS'; did you mean 'OFFLOAD_TIMEOUT'?",
        '--max-body must be a size from 1 to 1 GiB, such as 4096, "32MB" or "1GiB", not \'1 mile\'',
    ]


def test_a_faulty_value_is_reported_even_if_another_source_overrides_it() -> None:
    assert len(faults({"port": "1"}, {"OFFLOAD_PORT": "x"})) == 1


def test_a_key_written_in_two_ways_is_a_fault(config: Path) -> None:
    config.write_text("queue_limit = 1\nqueue-limit = 2\n")
    assert faults(config=config) == [f"'queue-limit' in {config} is already set as 'queue_limit'; remove one of them"]


def test_a_table_is_not_a_value(config: Path) -> None:
    config.write_text("[port]\nhttp = 80\n")
    assert faults(config=config) == [
        f"port in {config} must be a whole number from 0 to 65535 (0 = any free port), not {{'http': 80}}"
    ]


@pytest.mark.parametrize(
    "content",
    [b"port 80", b"\xff\xfe", b"a = 1\na = 2", b"a = " + b"[" * 100_000, b"a = " + b"9" * 5_000],
    ids=["not TOML", "not UTF-8", "duplicate key", "deeply nested", "long number"],
)
def test_a_file_that_is_not_toml_is_a_fault(config: Path, content: bytes) -> None:
    config.write_bytes(content)
    assert [fault.startswith(f"the settings file {config} is not valid TOML: ") for fault in faults(config=config)] == [
        True
    ]


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    assert faults(config=tmp_path / "none") == [
        f"cannot read the settings file {tmp_path}/none: No such file or directory"
    ]
    assert faults(config=tmp_path) == [f"cannot read the settings file {tmp_path}: Is a directory"]


def test_variables_of_the_services_own_processes_are_ignored() -> None:
    """A task may start a service of its own."""
    assert load_settings({}, dict.fromkeys(PRIVATE_VARIABLES, "x")) == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OFFLOAD_PORT", "tcp://10.0.0.1:8080"),
        ("OFFLOAD_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("OFFLOAD_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("OFFLOAD_SERVICE_HOST", "10.0.0.1"),
        ("OFFLOAD_SERVICE_PORT", "8080"),
        ("OFFLOAD_SERVICE_PORT_HTTP", "8080"),
        ("OFFLOAD_WEB_PORT", "tcp://10.0.0.1:8080"),
        ("OFFLOAD_WEB_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_variables_that_kubernetes_sets_are_ignored(name: str, value: str) -> None:
    assert load_settings({}, {name: value}) == Settings()
