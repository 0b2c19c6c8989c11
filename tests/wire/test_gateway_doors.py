"""What each door of a running gateway offers before and after TLS; a password is never taken in clear."""

from __future__ import annotations

import smtplib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers.dovecot import PASSWORD
from tests.wire.gateway_front import MOF, RELAY_PASSWORD, STRANGER, Front

pytestmark = pytest.mark.servers

ALWAYS = ["8BITMIME", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES", "PIPELINING", "SIZE 50000000", "SMTPUTF8"]
CLEAR = ["STARTTLS"]
SECURE = ["AUTH PLAIN LOGIN", "REQUIRETLS"]
AUTHOR = "author@mof.gov.example"


def offered(smtp: smtplib.SMTP) -> list[str]:
    """The keywords of the answer to EHLO, with their parameters, sorted; HELP is nobody's business."""
    code, text = smtp.ehlo("client.example")
    assert code == 250
    name, *words = text.decode("ascii").split("\n")
    assert name == "wasl.gov.example"
    assert words.count("HELP") == 1
    return sorted(word for word in words if word != "HELP")


@contextmanager
def door(front: Front, name: str) -> Iterator[smtplib.SMTP]:
    """A session at a door, before any EHLO; the relay's from a network of MOF."""
    if name == "submissions":
        context = front.authority.client()
        with smtplib.SMTP_SSL("localhost", front.wasl.ports[name], timeout=30, context=context) as smtp:
            yield smtp
    else:
        source = ("127.0.0.1" if name == "submission" else MOF.bind, 0)
        port = front.wasl.submission if name == "submission" else front.wasl.relay
        with smtplib.SMTP("127.0.0.1", port, timeout=30, source_address=source) as smtp:
            yield smtp


@pytest.mark.parametrize("name", ["relay", "submission", "submissions"])
def test_what_a_door_offers(front: Front, name: str) -> None:
    with door(front, name) as smtp:
        if name != "submissions":
            assert offered(smtp) == sorted([*ALWAYS, *CLEAR])
            smtp.starttls(context=front.authority.client())
        assert offered(smtp) == sorted([*ALWAYS, *SECURE])
        code, text = smtp.docmd("STARTTLS")
        assert (code, text.split()[0]) == (503, b"5.5.1")
        if name != "relay":  # there its password says which agency's server it is
            smtp.login(AUTHOR, PASSWORD)
            # RFC 4954 §4: not offered a second time to any effect.
            code, text = smtp.docmd("AUTH", f"PLAIN {_plain(AUTHOR, PASSWORD)}")
            assert (code, text.split()[0]) == (503, b"5.5.1")


def test_nothing_is_offered_after_helo(front: Front) -> None:
    with door(front, "relay") as smtp:
        assert smtp.helo("client.example") == (250, b"wasl.gov.example")
        for parameter in ("BODY=8BITMIME", "SMTPUTF8", "SIZE=10", "RET=HDRS"):
            code, text = smtp.docmd("MAIL", f"FROM:<{AUTHOR}> {parameter}")
            assert (code, text.split()[0]) == (555, b"5.5.4"), parameter


def _plain(user: str, password: str) -> str:
    return b64encode(f"\0{user}\0{password}".encode()).decode()


@pytest.mark.parametrize(
    ("name", "user", "password"),
    [("submission", AUTHOR, PASSWORD), ("relay", "mof-relay", RELAY_PASSWORD)],
)
def test_no_password_is_taken_in_clear(front: Front, name: str, user: str, password: str) -> None:
    """RFC 4954 §4, RFC 3207 §4: refused before the password is looked at; the right one signs nobody in."""
    port = front.wasl.submission if name == "submission" else front.wasl.relay
    with smtplib.SMTP("127.0.0.1", port, timeout=30, source_address=(STRANGER, 0)) as smtp:
        smtp.ehlo("client.example")
        for words in (f"PLAIN {_plain(user, password)}", "PLAIN", "LOGIN", f"PLAIN {_plain(user, 'wrong')}"):
            code, text = smtp.docmd("AUTH", words)
            assert (code, text.split()[0]) == (538, b"5.7.11"), words
        code, text = smtp.docmd("MAIL", "FROM:<author@mof.gov.example>")
        wanted = (530, b"5.7.0") if name == "submission" else (250, b"2.1.0")
        assert (code, text.split()[0]) == wanted
        if code == 250:  # anybody may speak at the relay door; only an agency's server may send
            code, text = smtp.docmd("RCPT", "TO:<diwan@moh.gov.example>")
            assert (code, text.split()[0]) == (550, b"5.7.1")


def test_requiretls_is_taken_only_where_it_is_offered(front: Front) -> None:
    with door(front, "relay") as smtp:
        smtp.ehlo("client.example")
        code, text = smtp.docmd("MAIL", f"FROM:<{AUTHOR}> REQUIRETLS")
        assert (code, text.split()[0]) == (555, b"5.5.4")
        smtp.starttls(context=front.authority.client())
        smtp.ehlo("client.example")
        assert smtp.docmd("MAIL", f"FROM:<{AUTHOR}> REQUIRETLS")[0] == 250
