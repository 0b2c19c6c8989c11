"""What the watch leans on in aioimaplib 2.0.3, privates among it: fails when upstream changes it."""

from __future__ import annotations

import asyncio
import inspect

from aioimaplib import aioimaplib

from gateway.imap_watch_client import WatchClient


def test_the_protocol_has_what_the_subclass_replaces_and_uses() -> None:
    upstream = aioimaplib.IMAP4ClientProtocol
    for name in ("data_received", "connection_lost", "_response_done", "execute", "send", "new_tag"):
        assert callable(getattr(upstream, name))
    assert list(inspect.signature(upstream.execute).parameters) == ["self", "command", "scrub"]
    assert list(inspect.signature(upstream.send).parameters) == ["self", "line", "scrub"]

    async def made() -> None:
        client = WatchClient(asyncio.get_running_loop())
        assert client.pending_sync_command is None and client.pending_async_commands == {}
        assert client.state == aioimaplib.STARTED and client.transport is None
        command = aioimaplib.Command("LIST", "A1", '""', prefix="", loop=client.loop, timeout=5)
        assert str(command) == 'A1 LIST ""'
        assert not command._event.is_set() and command._exception is None
        command._timer.cancel()
        assert str(aioimaplib.Command("FETCH", "A2", "1", prefix="UID", loop=client.loop)) == "A2 UID FETCH 1"

    asyncio.run(made())


def test_the_states_in_which_a_command_may_go_out() -> None:
    for name in ("EXAMINE", "LIST", "ENABLE", "FETCH", "SEARCH", "LOGIN", "STARTTLS", "AUTHENTICATE"):
        assert aioimaplib.Commands[name].valid_states
    assert aioimaplib.NONAUTH in aioimaplib.Commands["STARTTLS"].valid_states
    assert aioimaplib.SELECTED in aioimaplib.Commands["EXAMINE"].valid_states


def test_its_logger_never_shows_what_was_read() -> None:
    import logging

    assert logging.getLogger("aioimaplib.aioimaplib").getEffectiveLevel() >= logging.WARNING
