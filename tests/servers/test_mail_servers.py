"""The servers of the tests do what the tests believe of them."""

from __future__ import annotations

import imaplib
import os
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy

from tests.servers.certificates import Authority
from tests.servers.dovecot import PASSWORD, Dovecot, dovecot
from tests.servers.place import Child, Place, ServerFailed, answers, free_port, wait_until
from tests.servers.postfix import postfix
from tests.servers.sink import DROP, Sink, smtp_sink

LETTER = b"From: a@mof.example\r\nMessage-ID: <1@mof.example>\r\nSubject: x\r\n\r\n.dot\r\nend\r\n"

pytestmark = pytest.mark.servers


def send(port: int, sender: str, *recipients: str, octets: bytes = LETTER, notify: str = "") -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=90) as smtp:
        smtp.sendmail(sender, recipients, octets, rcpt_options=[f"NOTIFY={notify}"] if notify else [])


def test_database_is_empty_and_usable(db_url: str) -> None:
    engine = sqlalchemy.create_engine(db_url)
    with engine.begin() as conn:
        assert sqlalchemy.inspect(conn).get_table_names() == []
        conn.execute(sqlalchemy.text("CREATE TABLE letter (id BIGINT)"))
        conn.execute(sqlalchemy.text("INSERT INTO letter VALUES (1)"))
        assert conn.scalar(sqlalchemy.text("SELECT count(*) FROM letter")) == 1
    engine.dispose()


def test_postfix_relays_by_its_map_and_reports(dovecot_server: Dovecot, sink: Sink) -> None:
    with postfix(
        hostname="mail.mof1.example",
        domains=["mof1.example"],
        deliver_to=dovecot_server,
        relayhost=("127.0.0.1", sink.port),
    ) as server:
        send(server.port, "a@mof1.example", "b@moh1.example", notify="SUCCESS")
        (received,) = sink.wait()
        assert received.recipients == (b"<b@moh1.example> ORCPT=rfc822;b@moh1.example NOTIFY=SUCCESS",)
        assert received.octets.endswith(b"\r\n\r\n.dot\r\nend\r\n")

        send(server.port, "b@moh1.example", "a@mof1.example")
        assert b"Subject: x" in dovecot_server.maildir("a@mof1.example").wait()[0]

        sink.answer_once("RCPT", b"450 4.2.0 not now")
        send(server.port, "a@mof1.example", "c@moh1.example")
        sink.wait(2)
        server.wait_empty()
        assert "not now" in server.log()

        sink.answer_once("RCPT", b"550 5.1.1 nobody")
        send(server.port, "d@mof1.example", "c@moh1.example")
        (report,) = dovecot_server.maildir("d@mof1.example").wait()
        assert b"Status: 5.1.1" in report

        with smtp_sink() as other:
            server.route({"moh1.example": f"smtp:[127.0.0.1]:{other.port}"})
            send(server.port, "a@mof1.example", "e@moh1.example")
            other.wait()
        assert len(sink.received) == 2


def test_postfix_submission_needs_the_password(dovecot_server: Dovecot, sink: Sink) -> None:
    with postfix(
        domains=["mof2.example"], deliver_to=dovecot_server, relayhost=("127.0.0.1", sink.port)
    ) as server:
        with smtplib.SMTP("127.0.0.1", server.submission_port, timeout=90) as smtp:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                smtp.sendmail("a@mof2.example", ["b@moh.example"], LETTER)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                smtp.login("a@mof2.example", "wrong")
            smtp.login("a@mof2.example", PASSWORD)
            smtp.sendmail("a@mof2.example", ["b@moh.example"], LETTER)
        sink.wait()


def test_postfix_refuses_unknown_mailboxes_of_its_own() -> None:
    with postfix(domains=["mof3.example"], mailboxes=["a@mof3.example"]) as server:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(server.port, "x@mof3.example", "nobody@mof3.example")
        send(server.port, "x@mof3.example", "a@mof3.example")
        assert server.maildir("a@mof3.example").wait()


def test_dovecot_knows_its_mailboxes_and_speaks_tls(authority: Authority) -> None:
    tls = authority.issue("localhost", "127.0.0.1")
    with dovecot(mailboxes={"diwan@mof.example": "pw1"}, tls=tls) as server:
        with imaplib.IMAP4("127.0.0.1", server.imap_port, timeout=90) as imap:
            with pytest.raises(imaplib.IMAP4.error):
                imap.login("diwan@mof.example", "pw2")
            imap.starttls(authority.client())
            imap.login("diwan@mof.example", "pw1")
            assert "CONDSTORE" in imap.capability()[1][0].decode()
        assert server.imaps_port is not None
        with imaplib.IMAP4_SSL(
            "localhost", server.imaps_port, ssl_context=authority.client(), timeout=10
        ) as secure:
            secure.login("diwan@mof.example", "pw1")
        with smtplib.LMTP("127.0.0.1", server.lmtp_port, timeout=90) as lmtp:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                lmtp.sendmail("", ["nobody@mof.example"], LETTER)
            lmtp.sendmail("", ["diwan@mof.example"], LETTER)
        server.mailbox("diwan@mof.example", "الوارد")
        assert server.maildir("diwan@mof.example").wait()


def test_sink_keeps_octets_and_counts_repeats(sink: Sink) -> None:
    send(sink.port, "a@mof.example", "b@moh.example", "c@moh.example")
    send(sink.port, "a@mof.example", "b@moh.example")
    assert sink.received[0].octets == LETTER
    assert sink.received[0].message_id == b"<1@mof.example>"
    assert sink.duplicates() == {(b"<1@mof.example>", b"<b@moh.example"): 2}


def test_sink_takes_an_empty_letter_and_chunks(sink: Sink) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=90) as smtp:
        smtp.ehlo("c")
        for verb in ("MAIL FROM:<>", "RCPT TO:<b@moh.example>", "DATA"):
            smtp.docmd(verb)
        assert smtp.docmd(".")[0] == 250
        for verb in ("MAIL FROM:<>", "RCPT TO:<b@moh.example>"):
            smtp.docmd(verb)
        smtp.send(b"BDAT 3\r\nab\r")
        assert smtp.getreply()[0] == 250
        smtp.send(b"BDAT 2 LAST\r\n\n.")
        assert smtp.getreply()[0] == 250
    assert [r.octets for r in sink.received] == [b"", b"ab\r\n."]


def test_sink_follows_its_script(sink: Sink) -> None:
    sink.answer_once(".", DROP)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(sink.port, "a@mof.example", "b@moh.example")
    assert sink.received == []
    sink.answer_once("MAIL", b"451 4.3.0 later")
    with pytest.raises(smtplib.SMTPSenderRefused):
        send(sink.port, "a@mof.example", "b@moh.example")
    begin = time.monotonic()
    sink.answer_once(".", 0.2)
    send(sink.port, "a@mof.example", "b@moh.example")
    assert time.monotonic() - begin > 0.2


def test_sink_speaks_tls_and_lmtp(authority: Authority, lmtp_sink: Sink) -> None:
    with (
        smtp_sink(tls=authority.context("localhost")) as secure,
        smtplib.SMTP("localhost", secure.port, timeout=90) as smtp,
    ):
        smtp.starttls(context=authority.client())
        smtp.sendmail("a@mof.example", ["b@moh.example"], LETTER)
        assert secure.received[0].tls
    lmtp_sink.script = lambda verb, line: b"452 4.2.2 full" if verb == "." and b"c@" in line else None
    with smtplib.LMTP("127.0.0.1", lmtp_sink.port, timeout=90) as lmtp:
        lmtp.ehlo_or_helo_if_needed()
        for verb in ("MAIL FROM:<>", "RCPT TO:<b@moh.example>", "RCPT TO:<c@moh.example>", "DATA"):
            lmtp.docmd(verb)
        lmtp.send(b"x\r\n.\r\n")
        assert lmtp.getreply()[0] == 250
        assert lmtp.getreply()[0] == 452
    assert lmtp_sink.received[0].recipients == (b"<b@moh.example>",)


def test_a_server_does_not_outlive_the_tests(place: Place) -> None:
    """The test process is killed; the server it started goes with it."""
    script = place.write(
        "start.py",
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.servers.dovecot import dovecot\n"
        "with dovecot() as d:\n    print(d.imap_port, d.place.path, flush=True)\n    time.sleep(60)\n",
    )
    starter = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    port, left = starter.stdout.readline().split()
    assert answers(int(port))
    starter.kill()
    starter.wait()
    starter.stdout.close()
    wait_until(lambda: not answers(int(port)), "the end of Dovecot")
    subprocess.run(["rm", "-r", left], check=True)


def test_a_server_that_dies_says_why(place: Place) -> None:
    with (
        Child(["sh", "-c", "echo no such luck; exit 3"], log=place / "log") as child,
        pytest.raises(ServerFailed, match=r"ended with 3\nno such luck"),
    ):
        child.ready(lambda: False, "sh")


def test_the_folder_and_the_port_are_ones_own(place: Place) -> None:
    assert place.path.stat().st_mode & 0o777 == 0o755
    assert len(str(place.path)) < 40
    assert len({free_port() for _ in range(50)}) == 50
    assert os.access(place.path, os.W_OK)
