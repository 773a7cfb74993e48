"""The numbers in `deploy/` agree with each other and with the defaults of the settings."""

from __future__ import annotations

import json
import re

import pytest

from offload.settings.table import Settings
from offload.web.answers.problems import members
from offload.web.server import runner as serve
from tests.deploy.files import (
    README,
    container_environment,
    nginx_map,
    nginx_size,
    nginx_time_s,
    nginx_values,
    unit_values,
)

DEFAULTS = Settings()
# After the drain, to stop the remaining jobs and exit.
AFTER_DRAIN_S = 15.0


def budget_s() -> float:
    return float(nginx_map("offload_budget_s")[""])


def in_readme(pattern: str) -> float:
    """Returns the one number that the pattern finds in the README."""
    numbers = set(re.findall(pattern, README.read_text()))
    assert len(numbers) == 1, (pattern, numbers)
    return float(numbers.pop())


def test_nginx_accepts_the_same_bodies_as_the_service() -> None:
    [value] = nginx_values("client_max_body_size")
    assert nginx_size(value) == DEFAULTS.max_body


def test_the_budget_of_nginx_covers_queue_and_run_time() -> None:
    assert budget_s() >= 2 * DEFAULTS.timeout


def test_nginx_waits_longer_than_its_budget() -> None:
    read_timeout_s = max(map(nginx_time_s, nginx_values("proxy_read_timeout")))
    assert budget_s() + 5 <= read_timeout_s


def test_nginx_sends_a_body_within_the_limit_of_the_service() -> None:
    [value] = nginx_values("proxy_send_timeout")
    assert nginx_time_s(value) == DEFAULTS.body_timeout


def test_nginx_closes_idle_connections_before_the_service_does() -> None:
    [value] = nginx_values("keepalive_timeout")
    assert nginx_time_s(value) < serve._KEEP_ALIVE_S


def test_nginx_expects_the_service_at_its_default_address() -> None:
    assert f"{DEFAULTS.host}:{DEFAULTS.port}" in nginx_values("server")


def test_nginx_answers_with_the_problems_of_the_service() -> None:
    documents = {
        int(status): json.loads(text) for status, text in nginx_map("offload_problem").items() if status.isdigit()
    }
    of_the_service = {
        400: members("bad-request"),
        413: {**members("body-too-large"), "limit_bytes": DEFAULTS.max_body},
    }
    for status, document in documents.items():
        assert {"type", "title", "status", "detail"} <= document.keys()
        assert document["status"] == status
        expected = of_the_service.get(status, {"type": "about:blank"})
        assert expected.items() <= document.items()
    assert of_the_service.keys() <= documents.keys()


def test_nginx_uses_every_problem_that_it_defines() -> None:
    answered = {status for value in nginx_values("error_page") for status in re.findall(r"(?<!=)\b\d{3}\b", value)}
    defined = {status for status in nginx_map("offload_problem") if status.isdigit()}
    assert defined <= answered


def test_systemd_waits_for_the_drain() -> None:
    assert float(unit_values()["TimeoutStopSec"]) >= DEFAULTS.drain_timeout + AFTER_DRAIN_S


def test_kubernetes_waits_for_the_pause_and_the_drain() -> None:
    grace_s = in_readme(r"terminationGracePeriodSeconds: (\d+)")
    pause_s = in_readme(r'command: \[sleep, "(\d+)"\]')
    assert grace_s >= pause_s + DEFAULTS.drain_timeout + AFTER_DRAIN_S


def test_docker_waits_for_the_drain() -> None:
    assert in_readme(r"--stop-timeout (\d+)") >= DEFAULTS.drain_timeout + AFTER_DRAIN_S
    assert in_readme(r"stop_grace_period: (\d+)s") >= DEFAULTS.drain_timeout + AFTER_DRAIN_S


def test_kubernetes_waits_for_the_tasks_to_load() -> None:
    probe = re.search(r"startupProbe:.*?periodSeconds: (\d+)\s+failureThreshold: (\d+)", README.read_text(), re.DOTALL)
    assert probe is not None
    assert int(probe[1]) * int(probe[2]) > DEFAULTS.start_timeout


def test_the_container_publishes_the_default_port() -> None:
    assert int(container_environment()["OFFLOAD_PORT"]) == DEFAULTS.port
    assert in_readme(r"containerPort: (\d+)") == DEFAULTS.port


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        (r"`max_body` (\d+) MiB", DEFAULTS.max_body / (1 << 20)),
        (r"`timeout` (\d+) s", DEFAULTS.timeout),
        (r"`body_timeout` (\d+) s", DEFAULTS.body_timeout),
        (r"`drain_timeout` (\d+) s", DEFAULTS.drain_timeout),
        (r"`start_timeout` (\d+) s", DEFAULTS.start_timeout),
        (r"keep-alive, (\d+) s", serve._KEEP_ALIVE_S),
        (r"`client_max_body_size` (\d+)m", DEFAULTS.max_body / (1 << 20)),
        (r"`map … \$offload_budget_s` (\d+)", budget_s()),
        (r"`proxy_read_timeout` (\d+)s", nginx_time_s(nginx_values("proxy_read_timeout")[0])),
        (r"`proxy_send_timeout` (\d+)s", nginx_time_s(nginx_values("proxy_send_timeout")[0])),
        (r"`keepalive_timeout` (\d+)s", nginx_time_s(nginx_values("keepalive_timeout")[0])),
        (r"`TimeoutStopSec` (\d+)", float(unit_values()["TimeoutStopSec"])),
        (r"`terminationGracePeriodSeconds` (\d+)", in_readme(r"terminationGracePeriodSeconds: (\d+)")),
    ],
)
def test_the_numbers_in_the_readme_are_right(pattern: str, number: float) -> None:
    assert in_readme(pattern) == number
