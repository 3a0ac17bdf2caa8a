"""Statuses, terminal sizes and bounded inboxes."""

import asyncio
import json

from orchestrator.web.streams.channels import (
    Inbox,
    Resizes,
    exit_status,
    internal_error,
    status_bytes,
    success,
)


def test_an_exit_code_is_the_cause_that_kubectl_reads() -> None:
    status = exit_status(7)
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert exit_status(0) == success()


def test_old_protocols_get_bare_words_and_nothing_on_success() -> None:
    assert status_bytes(success(), as_json=False) == b""
    assert status_bytes(internal_error("no such thing"), as_json=False).endswith(b"no such thing")
    assert json.loads(status_bytes(success(), as_json=True))["status"] == "Success"


def test_sizes_are_read_however_they_are_cut_and_nonsense_is_dropped() -> None:
    sizes = Resizes()
    assert sizes.feed(b'{"Width":80,"Hei') == []
    assert sizes.feed(b'ght":24}\n{"Width":1,"Height":2}') == [(80, 24), (1, 2)]
    assert sizes.feed(b'{"Width":0,"Height":2}{"Width":"x"}[]{"Width":9,"Height":9}') == [(9, 9)]
    assert sizes.feed(b"{" * 2000) == []
    assert sizes.feed(b'{"Width":3,"Height":4}') == [(3, 4)]


async def test_an_inbox_makes_its_feeder_wait_and_keeps_order() -> None:
    inbox = Inbox(limit_bytes=4)
    await inbox.feed(b"1234")
    more = asyncio.ensure_future(inbox.feed(b"56"))
    await asyncio.sleep(0)
    assert not more.done()
    assert await inbox.read() == b"1234"
    await more
    inbox.end()
    assert [await inbox.read(), await inbox.read()] == [b"56", b""]


async def test_an_inbox_that_nobody_reads_blocks_nobody() -> None:
    inbox = Inbox(limit_bytes=1)
    await inbox.feed(b"x")
    waiting = asyncio.ensure_future(inbox.feed(b"y"))
    await asyncio.sleep(0)
    inbox.discard()
    await asyncio.wait_for(waiting, 1)
    assert await inbox.read() == b""
