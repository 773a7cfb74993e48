"""The brake on failing start-ups: no pause at first, then growing ones, until the first success."""

from __future__ import annotations

from offload.processes.brake import Brake


def test_two_failures_in_a_row_cause_no_pause() -> None:
    brake = Brake()
    pauses = []
    for _ in range(2):
        brake.failed(0, "no")
        pauses.append(brake.pause_s())
    assert pauses == [0.0, 0.0]
    assert not brake.is_on


def test_from_the_third_failure_on_pauses_double_up_to_a_limit() -> None:
    brake = Brake()
    pauses = []
    for _ in range(40):
        brake.failed(0, "no")
        pauses.append(brake.pause_s())
    braked = pauses[2:]
    assert braked[:4] == [0.25, 0.5, 1.0, 2.0]
    assert braked == sorted(braked)
    assert braked[-1] == 15.0
    assert brake.is_on


def test_the_last_error_is_kept_until_a_worker_is_ready() -> None:
    brake = Brake()
    for error in ("first", "second", "third"):
        brake.failed(0, error)
    assert brake.error == "third"
    brake.succeeded()
    assert not brake.error
    assert (brake.is_on, brake.pause_s()) == (False, 0.0)
    brake.failed(0, "again")
    assert brake.pause_s() == 0.0


def test_one_failure_in_many_lanes_counts_once() -> None:
    brake = Brake()
    pauses = []
    for _ in range(4):
        for lane in range(64):
            brake.failed(lane, "no")
        pauses.append(brake.pause_s())
    assert pauses == [0.0, 0.0, 0.25, 0.5]


def test_one_ready_lane_releases_the_brake_for_all() -> None:
    brake = Brake()
    for lane in (0, 1, 1, 1):
        brake.failed(lane, "no")
    assert brake.is_on
    brake.succeeded()
    for _ in range(2):
        brake.failed(1, "no")
    assert not brake.is_on
