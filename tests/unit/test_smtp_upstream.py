"""What the session leans on in aiosmtpd: fails when upstream changes, so that someone looks."""

from __future__ import annotations

import asyncio
import inspect
from asyncio import StreamReaderProtocol
from contextlib import closing

import aiosmtpd
from aiosmtpd.smtp import SMTP, Session, syntax

from gateway.smtp_server import SmtpServer

# Inherited, and never reached from ours: aiosmtpd's own loop, AUTH and handler hooks call them.
UNREACHED = {
    "_auth_interact",
    "_authenticate",
    "_call_handler_hook",
    "_cb_client_connected",
    "_create_envelope",
    "_create_session",
    "_drain_helper",
    "_get_close_waiter",
    "_getaddr",
    "_getparams",
    "_replace_writer",
    "_reset_timeout",
    "_set_post_data_state",
    "_strip_command_keyword",
    "_timeout_cb",
    "auth_LOGIN",
    "auth_PLAIN",
    "challenge_auth",
    "check_auth_needed",
    "check_helo_needed",
}
# Inherited and used, or called by Python: they need nothing that SMTP.__init__ would have set.
USED = {"__del__", "_syntax_available"}


def test_the_version_that_was_read() -> None:
    assert aiosmtpd.__version__ == "1.4.6"


def test_every_inherited_method_is_known() -> None:
    inherited = {
        name
        for name, value in inspect.getmembers(SmtpServer, inspect.isfunction)
        if value.__module__ != "builtins" and not value.__module__.startswith("gateway.")
    }
    assert inherited == UNREACHED | USED


def test_every_verb_of_upstream_is_our_own() -> None:
    verbs = {name for name in dir(SMTP) if name.startswith("smtp_")}
    assert verbs == {
        f"smtp_{verb}"
        for verb in (
            "HELO",
            "EHLO",
            "NOOP",
            "QUIT",
            "STARTTLS",
            "AUTH",
            "HELP",
            "VRFY",
            "MAIL",
            "RCPT",
            "RSET",
            "DATA",
            "EXPN",
        )
    }
    for name in verbs:
        assert getattr(SmtpServer, name).__module__.startswith("gateway.smtp_")
    assert {verb.decode() for verb in SmtpServer._verbs} == {v[5:] for v in verbs} | {"BDAT"}


def test_deleting_a_session_needs_no_stream() -> None:
    source = inspect.getsource(SMTP.__del__)
    assert 'getattr(self, "_closed", None)' in source
    assert issubclass(SMTP, StreamReaderProtocol)


def test_help_texts_are_read_from_these_attributes() -> None:
    @syntax("X", extended=" Y", when="z")
    def verb() -> None: ...

    names = ("__smtp_syntax__", "__smtp_syntax_extended__", "__smtp_syntax_when__")
    assert [getattr(verb, name) for name in names] == ["X", " Y", "z"]


def test_the_session_has_what_we_keep_in_it() -> None:
    with closing(asyncio.new_event_loop()) as loop:
        kept = vars(Session(loop))
    assert {"peer", "host_name", "extended_smtp", "authenticated"} <= set(kept)
