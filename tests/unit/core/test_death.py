"""What a `Death` says about the end of a worker."""

from __future__ import annotations

import pytest

from offload.core.death import Death


@pytest.mark.parametrize(
    ("death", "facts", "text"),
    [
        (Death(signal="SIGSEGV"), {"signal": "SIGSEGV"}, "was terminated by SIGSEGV"),
        (Death(exit_code=3), {"exit_code": 3}, "exited with code 3"),
        (Death(), {"exit_code": None}, "ended for an unknown reason"),
        (Death(exit_code=0, note="too soon"), {"exit_code": 0}, "exited with code 0 (too soon)"),
    ],
)
def test_a_death_is_described_by_signal_or_exit_code(death: Death, facts: dict[str, object], text: str) -> None:
    assert (death.facts(), str(death)) == (facts, text)
