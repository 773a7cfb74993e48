"""The names of exit codes and signals."""

from __future__ import annotations

import signal

import pytest

from offload.core.death import Death
from offload.processes.naming import name_death


@pytest.mark.parametrize(
    ("exit_code", "death", "text"),
    [
        (0, Death(exit_code=0), "exited with code 0"),
        (7, Death(exit_code=7), "exited with code 7"),
        (255, Death(exit_code=255), "exited with code 255"),
        (-9, Death(signal="SIGKILL"), "was terminated by SIGKILL"),
        (-11, Death(signal="SIGSEGV"), "was terminated by SIGSEGV"),
        (-6, Death(signal="SIGABRT"), "was terminated by SIGABRT"),
        (
            -int(signal.SIGRTMIN) - 3,
            Death(signal=f"SIG{signal.SIGRTMIN + 3}"),
            f"was terminated by SIG{signal.SIGRTMIN + 3}",
        ),
        (None, Death(), "ended for an unknown reason"),
    ],
)
def test_exit_codes_and_signals_have_names(exit_code: int | None, death: Death, text: str) -> None:
    assert name_death(exit_code) == death
    assert str(death) == text


def test_a_note_is_appended() -> None:
    assert str(name_death(-9, note="it closed its channel")) == "was terminated by SIGKILL (it closed its channel)"
