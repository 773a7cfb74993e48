"""What each setting may be, and that all faults are reported together."""

from __future__ import annotations

import dataclasses

import pytest

from offload.errors import SettingsError
from offload.settings.kinds import parse_size
from offload.settings.table import LogLevel, Setting, Settings, StartMethod, table

ROWS = [pytest.param(setting, id=setting.name) for setting in table()]


def faults(**values: object) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        Settings(**values)  # type: ignore[arg-type]  # wrong values are the subject
    return list(raised.value.faults)


def test_the_documented_defaults() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.uds) == ("127.0.0.1", 8080, None)
    assert (settings.workers, settings.spares, settings.start_method) == (0, 0, StartMethod.FORKSERVER)
    assert (settings.timeout, settings.drain_timeout) == (60.0, 30.0)
    assert (settings.queue_limit, settings.max_body) == (1000, 32 * 1024**2)
    assert (settings.threads_per_worker, settings.debug) == (1, False)


@pytest.mark.parametrize("setting", ROWS)
def test_every_setting_is_explained(setting: Setting) -> None:
    assert setting.help.endswith(".")
    assert setting.reason.endswith(".")
    assert setting.kind.range


@pytest.mark.parametrize("setting", ROWS)
def test_every_default_is_in_its_range(setting: Setting) -> None:
    assert setting.kind.read(setting.kind.default) == setting.kind.default


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]  # that it is frozen is the subject


def test_all_faults_are_reported_together_with_name_range_and_value() -> None:
    assert faults(port=70_000, timeout=0, log_level="loud") == [
        "port must be a whole number from 0 to 65535 (0 = any free port), not 70000",
        "timeout must be a number of seconds from 0.001 to 2592000, not 0",
        "log_level must be one of debug, info, warning, error, not 'loud'",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", ""),
        ("host", "two words"),
        ("host", None),
        ("port", -1),
        ("port", "80.5"),
        ("port", True),
        ("port", 80.0),
        ("port", "٨٠"),
        ("port", "9" * 5000),
        ("uds", ""),
        ("uds", "x" * 108),
        ("uds", "nul\0"),
        ("root_path", "compute"),
        ("root_path", "/compute/"),
        ("root_path", "/two words"),
        ("timeout", float("nan")),
        ("timeout", "inf"),
        ("timeout", 10**400),
        ("timeout", ""),
        ("timeout", True),
        ("queue_limit", 0),
        ("queue_bytes", "-1"),
        ("max_body", "32 parsecs"),
        ("max_body", "1IB"),
        ("max_body", 1.5),
        ("max_body", True),
        ("max_rss_per_worker", 1),
        ("start_method", "thread"),
        ("start_method", 1),
        ("debug", "perhaps"),
        ("debug", 1),
        ("debug", []),
    ],
)
def test_a_value_out_of_range_is_a_fault(name: str, value: object) -> None:
    assert [fault.split()[0] for fault in faults(**{name: value})] == [name]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "0", 0),
        ("uds", "/run/offload.sock", "/run/offload.sock"),
        ("root_path", "/a/b", "/a/b"),
        ("timeout", "2.5", 2.5),
        ("timeout", 3, 3.0),
        ("max_body", "32MB", 32_000_000),
        ("max_body", "1 gib", 1024**3),
        ("max_rss_per_worker", "0", 0),
        ("start_method", "SPAWN", StartMethod.SPAWN),
        ("log_level", "debug", LogLevel.DEBUG),
        ("debug", "yes", True),
        ("access_log", "off", False),
    ],
)
def test_a_text_is_read_as_its_value(name: str, value: object, expected: object) -> None:
    settings = Settings(**{name: value})  # type: ignore[arg-type]  # texts are accepted for every type
    assert getattr(settings, name) == expected
    assert type(getattr(settings, name)) is type(expected)


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(faults(host="x " * 10_000)[0]) < 200


def test_control_characters_are_escaped_in_the_message() -> None:
    assert "\n" not in faults(host="a\nb")[0]


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1B", 1),
        ("64KiB", 65_536),
        ("64 kb", 64_000),
        ("1.5GiB", 1_610_612_736),
        ("2TB", 2 * 10**12),
        (" 7 MB ", 7_000_000),
    ],
)
def test_sizes_have_decimal_and_binary_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.", "1e3", "32M", "1 1", "0x10", "1  MB"])
def test_a_malformed_size_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)
