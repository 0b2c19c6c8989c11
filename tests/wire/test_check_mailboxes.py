"""``wasl check`` and the servers that clients reach through Wasl: in words what is wrong with one.

That the command names file and line stands in tests/wire/test_watch_commands.py, where it runs anyway.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.mailbox_probe import probe_mailboxes
from policies.agency import ImapServer
from policies.watch import Meaning, Watch
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.place import free_port
from tests.wire.test_imap_entering import Listener
from tracker.model import Address

pytestmark = pytest.mark.servers
ALL = b"IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=PLAIN"


def account(server: ImapServer, password: str = "secret") -> Watch:
    return Watch(
        mailbox=Address.parse("a@moh.gov.example"),
        host=server.host,
        port=server.port,
        tls=server.tls,
        username="a@moh.gov.example",
        password=password,
        folders=(("INBOX", Meaning.ARRIVAL),),
    )


def test_a_server_as_it_should_be(dovecot_server: Dovecot) -> None:
    server = ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="none")
    assert probe_mailboxes(server).error == ""
    answer = probe_mailboxes(server, account(server))
    assert (answer.error, answer.notes) == ("", ()) and "AUTH=PLAIN" in answer.offers


def test_an_account_that_is_refused(dovecot_server: Dovecot) -> None:
    server = ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="none")
    error = probe_mailboxes(server, account(server, "not it")).error
    assert "it refuses a@moh.gov.example, the account of `watch:`" in error
    assert "not it" not in error and "AUTHENTICATIONFAILED" in error


SAID: dict[str, tuple[bytes, bytes, str, str]] = {
    "not-imap": (b"X-THING", ALL, "neither IMAP4rev1 nor IMAP4rev2", ""),
    "no-way-in": (b"IMAP4rev1 ID LOGINDISABLED", ALL, "neither a password (LOGINDISABLED) nor XOAUTH2", ""),
    "oauth-only": (b"IMAP4rev1 ID LOGINDISABLED AUTH=XOAUTH2", ALL, "", "it takes XOAUTH2 only"),
    "blind": (b"IMAP4rev1 SASL-IR AUTH=PLAIN", ALL, "", "it offers neither XCLIENT nor ID"),
    "poor": (ALL, b"IMAP4rev1 ID IDLE", "", "it lacks ENABLE, LITERAL+: clients"),
    "rev2": (b"IMAP4rev2 ID AUTH=PLAIN SASL-IR", ALL, "", ""),
}


@pytest.mark.parametrize(("before", "behind", "error", "note"), SAID.values(), ids=list(SAID))
def test_what_a_server_lacks(before: bytes, behind: bytes, error: str, note: str) -> None:
    listener = Listener(before, behind)
    try:
        answer = probe_mailboxes(listener.upstream, account(listener.upstream))
    finally:
        listener.close()
    assert (error in answer.error) if error else answer.error == ""
    assert [one for one in answer.notes if note in one] if note else answer.notes == ()
    assert not [heard for heard in listener.heard if b"SELECT" in heard or b"FETCH" in heard]


@pytest.mark.parametrize("way", ["id", "xclient"])
def test_a_way_to_tell_the_address_that_is_not_offered(way: str) -> None:
    listener = Listener(b"IMAP4rev1 AUTH=PLAIN")
    try:
        (note,) = probe_mailboxes(replace(listener.upstream, client_address=way)).notes
    finally:
        listener.close()
    assert f"client_address is {way}, but it offers no {way.upper()}" in note


def test_tls_that_is_not_to_be_had_or_not_good(dovecot_server: Dovecot, authority: Authority) -> None:
    clear = ImapServer(host="127.0.0.1", port=dovecot_server.imap_port, tls="required")
    assert "does not offer TLS" in probe_mailboxes(clear).error
    assert probe_mailboxes(replace(clear, tls="implicit")).error.startswith("TLS: ")
    assert "refused" in probe_mailboxes(replace(clear, port=free_port("127.0.0.1"))).error
    assert probe_mailboxes(replace(clear, ca=Path("/nowhere.pem"))).error == "no such file or directory"
    with dovecot(tls=authority.issue("127.0.0.1")) as server:
        for port, how in ((server.imap_port, "required"), (server.imaps_port or 0, "implicit")):
            good = ImapServer(host="127.0.0.1", port=port, tls=how, ca=authority.file)
            assert probe_mailboxes(good, account(good)).error == ""
            assert "its certificate is not good" in probe_mailboxes(replace(good, ca=None)).error
