"""Heads of responses that are sent without aiohttp."""

from __future__ import annotations

import pytest

from offload.web.answers.reply import JSON_HEADERS, Reply
from offload.web.server.response_head import HeadWriter


def test_the_date_follows_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reply = HeadWriter(), Reply(200, JSON_HEADERS, b"7")
    for now, date in [(7200.5, b"02:00:00"), (7201.0, b"02:00:01"), (3600.0, b"01:00:00")]:
        monkeypatch.setattr("time.time", lambda now=now: now)
        assert b"\r\nDate: Thu, 01 Jan 1970 %b GMT\r\n" % date in writer.head(reply, request_id="", is_last=False)
