"""A gateway that is stopped, reloaded and doubled, and one between real servers.

Each test has a gateway of its own: what it does to it would disturb others.
"""

from __future__ import annotations

import http.client
import json
import signal
import smtplib
from pathlib import Path
from typing import Any

import pytest

from gateway.forwarding import MOST_PASSES
from tests.servers import ready
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.exim import exim
from tests.servers.opendkim import opendkim_verifier
from tests.servers.place import ServerFailed, free_port, wait_until
from tests.servers.postfix import postfix
from tests.servers.wasl import serving, wasl
from tests.wire.gateway_front import MOF, MOH, MOJ, Agency, Front, gateway_front, hop, transaction
from tests.wire.wire_letters import as_sent, body, header, letter, stuffed

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
DIWAN = "diwan@moh.gov.example"


def test_between_real_servers(tmp_path: Path, authority: Authority, dovecot_server: Dovecot) -> None:
    """Postfix hands in, Postfix with OpenDKIM and Exim take; DSNs prove the mailbox, receipts come home."""
    author, diwan, legal = "s1@mof.gov.example", "r1@moh.gov.example", "l1@moj.gov.example"
    gateway = ("127.0.0.1", relay := free_port())
    final = {"lmtp_assume_final": "yes"}
    with (
        postfix(
            hostname="mail.mof.gov.example",
            domains=["mof.gov.example"],
            deliver_to=dovecot_server,
            relayhost=gateway,
            bind=MOF.bind,
            settings=final,
        ) as home,
        exim(
            domains=["moj.gov.example"], deliver_to=dovecot_server, relayhost=gateway, bind=MOJ.bind
        ) as other,
        gateway_front(
            tmp_path,
            authority,
            relay=relay,
            agencies=(MOF, MOH, MOJ),
            hops={"MOF": hop(home.port), "MOJ": hop(other.port)},
        ) as front,
        opendkim_verifier(keys=front.dkim) as verifier,
        postfix(
            hostname="mail.moh.gov.example",
            domains=["moh.gov.example"],
            deliver_to=dovecot_server,
            relayhost=gateway,
            bind=MOH.bind,
            milter=verifier.socket,
            settings=final,
        ) as there,
    ):
        front.house.agency("MOH", hop(there.port))
        front.reload()
        front.wasl.wait_log("directory of")
        octets, message_id = letter(f"{diwan}, {legal}", author=author)
        with smtplib.SMTP("127.0.0.1", home.port, timeout=30) as smtp:
            orcpt = "ORCPT=rfc822;The.Diwan@MOH.gov.example"
            smtp.sendmail(
                author,
                [diwan, legal],
                octets,
                ["RET=HDRS", "ENVID=Case+2BkEpt"],
                ["NOTIFY=SUCCESS,FAILURE", orcpt],
            )
        # Exim hands in too: the letters cross.
        answer, answer_id = letter(diwan, author=legal, subject="من خادم آخر")
        with smtplib.SMTP("127.0.0.1", other.port, timeout=30) as smtp:
            smtp.sendmail(legal, [diwan], answer, ["BODY=8BITMIME"], ["NOTIFY=SUCCESS"])

        both = map(as_sent, dovecot_server.maildir(diwan).wait(2))
        copy, theirs = sorted(both, key=lambda octets: header(octets, "Message-ID") == answer_id)
        number = header(copy, "Wasl-Letter")
        assert header(copy, "Authentication-Results").startswith("verifier.example")
        assert copy.count(b"dkim=pass") == 2, copy.decode()
        assert header(copy, "Subject").startswith(f"[{number}]")
        (second,) = map(as_sent, dovecot_server.maildir(legal).wait())
        assert header(second, "Wasl-Letter") == number
        assert front.signatures(second) == ["ed25519-sha256", "rsa-sha256"]

        front.wait_standing(message_id, diwan, "sent", 3, "open")
        wait_until(lambda: front.standing(message_id)[legal][0] == "sent", "Exim's 250")
        front.quiet()

        def kinds() -> set[str]:
            return {header(as_sent(r), "Wasl-Receipt") for r in dovecot_server.maildir(author).messages()}

        wait_until(lambda: kinds() >= {"delivered", "submitted"}, "the receipts", hint=home.log)
        receipts = [as_sent(octets) for octets in dovecot_server.maildir(author).messages()]
        assert {header(r, "Return-Path") for r in receipts} == {"<>"}
        # RFC 3461 §4: what the author's server asked with comes back letter for letter, and so did what
        # Wasl asked the next server with.
        assert {header(r, "In-Reply-To") for r in receipts} == {message_id}
        for told in (r for r in receipts if header(r, "Wasl-Receipt") == "delivered"):
            assert b"\nOriginal-Envelope-Id: Case+kEpt\r\n" in told
            assert b"\nOriginal-Recipient: rfc822; The.Diwan@MOH.gov.example\r\n" in told
        kept = [path.read_bytes() for path in (front.house.data / "archive").rglob("*.eml")]
        (report,) = [
            o for o in kept if b"Reporting-MTA: dns; mail.moh.gov.example" in o and number.encode() in o
        ]
        assert b"\nOriginal-Recipient: rfc822;The.Diwan@MOH.gov.example\r\n" in report

        assert body(theirs) == body(answer)
        assert header(theirs, "Wasl-Letter") == front.letter(answer_id).number
        assert front.letter(answer_id).number.startswith("MOJ/")
        front.wait_standing(answer_id, diwan, "sent", 3, "open")
        front.verify()


def test_two_gateways_that_point_at_each_other_stop(tmp_path: Path, authority: Authority) -> None:
    """Each believes that the agency X is behind the other."""
    one, two = free_port(), free_port()
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    there = Agency(code="MOX", domain="x.gov.example", bind="127.0.0.1", more="forwards: all\n")
    back = Agency(code="MOX", domain="x.gov.example")
    first = Agency(code="WSA", domain="a.wasl.example", bind="127.0.0.1", more="forwards: all\n")
    with (
        gateway_front(
            tmp_path / "1",
            authority,
            hostname="a.wasl.example",
            relay=one,
            agencies=(MOF, there),
            hops={"MOX": hop(two)},
        ) as a,
        gateway_front(
            tmp_path / "2",
            authority,
            hostname="b.wasl.example",
            relay=two,
            agencies=(MOF, back, first),
            hops={"MOX": hop(one), "WSA": hop(one)},
        ) as b,
    ):
        octets, message_id = letter("someone@x.gov.example")
        a.accept(octets, "someone@x.gov.example")
        a.wait_standing(message_id, "someone@x.gov.example", "failed", 2, "failed")
        failed, _ = a.receipts(message_id, "failed", "submitted")
        assert b"5.4.6" in failed.octets

        def refused(by: Front) -> int:
            return by.wasl.log().count("reject: from [127.0.0.1]: 554 5.4.6 Mail loop")

        assert (refused(a), refused(b)) == (1, 0) and b.wasl.log().count("(queue active)") == 1
        # What has no sender to be told simply ends: at a second visit, or a sixth where it was forgotten.
        octets, message_id = letter("someone@x.gov.example")
        a.accept(octets, "someone@x.gov.example", sender="")
        wait_until(lambda: refused(a) + refused(b) == 2, "the end", hint=lambda: a.wasl.log() + b.wasl.log())
        a.quiet()
        b.quiet()
        assert 2 <= b.wasl.log().count("(queue active)") <= 1 + MOST_PASSES
        assert [one.kind for one in a.letters(message_id) + b.letters(message_id)] == ["refused"]


class Health:
    """What /healthz says."""

    def __init__(self, front: Front) -> None:
        self._port = front.wasl.ports["metrics"]

    def faults(self) -> list[str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=90)
        connection.request("GET", "/healthz")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        assert answer["ok"]
        return list(answer["config_faults"])


def taken(smtp: smtplib.SMTP, recipient: str) -> bool:
    """Whether a recipient is taken now."""
    smtp.docmd("MAIL", f"FROM:<{AUTHOR}>")
    code, _ = smtp.docmd("RCPT", f"TO:<{recipient}>")
    smtp.docmd("RSET")
    return code == 250


def test_the_directory_changes_under_an_open_connection(tmp_path: Path, authority: Authority) -> None:
    new = Agency(code="NEW", domain="new.gov.example")
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front, front.session(MOF) as smtp:
        health = Health(front)
        assert not taken(smtp, "a@new.gov.example")
        port = front.sink(MOH).port
        file = front.house.agency("NEW", new.lines(hop(port)))
        wait_until(lambda: taken(smtp, "a@new.gov.example"), "the new agency")

        # A broken file is refused whole, by name and line; the last good one stays in force.
        good = file.read_text()
        file.write_text(good + "colour: green\n")
        wait_until(health.faults, "the fault")
        (fault,) = health.faults()
        assert "agencies/new.yaml:" in fault and "colour" in fault
        front.wasl.wait_log(fault)
        assert taken(smtp, "a@new.gov.example") and taken(smtp, DIWAN)
        file.write_text("]" * 1000)
        front.reload()
        wait_until(lambda: "colour" not in str(health.faults()), "the other fault")
        assert taken(smtp, "a@new.gov.example")
        octets, message_id = letter("a@new.gov.example")
        assert transaction(smtp, octets, "a@new.gov.example", sender=AUTHOR)[0] == 250
        front.arrived(MOH, message_id)

        file.write_text(good)
        front.reload()
        wait_until(lambda: not health.faults(), "no fault")
        file.unlink()
        wait_until(lambda: not taken(smtp, "a@new.gov.example"), "the agency to go")
        assert taken(smtp, DIWAN)


def test_reload_says_what_was_read_and_every_fault(tmp_path: Path, authority: Authority) -> None:
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front:
        status, said, faults = told(front)
        assert (status, faults) == (0, "")
        assert said.splitlines()[0].startswith("directory of 3 agencies is in force, version ")
        assert "policy version " in said and "4 signing keys can be used" in said
        assert said.splitlines()[-1].startswith("ledger key wasl.gov.example/ledger+")
        new = Agency(code="NEW", domain="new.gov.example")
        file = front.house.agency("NEW", new.lines(hop(25)) + "colour: green\n")
        (key,) = (front.house.root / "secrets").glob("dkim/mof.gov.example/*-ed.pem")
        key.write_text("no key")
        status, said, faults = told(front)
        assert status == 1
        assert said.startswith("directory of 3 agencies is in force")
        assert "agencies/new.yaml:" in faults and "colour" in faults
        assert "what was in force stays in force" in faults
        file.write_text(file.read_text().replace("colour: green\n", ""))
        status, said, faults = told(front)
        assert said.startswith("directory of 4 agencies is in force")
        assert status == 1 and faults.startswith("agencies/mof.yaml: dkim "), faults
        (answer,) = told(front, "--json")[1].splitlines()
        assert json.loads(answer)["keys"] == 3


def test_the_ledgers_key_is_changed_while_letters_flow(tmp_path: Path, authority: Authority) -> None:
    """Receipts of before and of after are verified with the keys that are published, by anybody."""
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front:
        before = _acceptance(front)
        old = front.house.run("ledger", "key").split()
        made = front.house.rows("keys", "rotate-ledger")[0]
        assert made["keys"][1:] == old and len(made["keys"]) == 2
        after = _acceptance(front)
        keys = tmp_path / "published.txt"
        keys.write_text("\n".join(front.house.run("ledger", "key").split()))
        assert keys.read_text().split() == made["keys"]
        for receipt in (before, after):
            file = tmp_path / "receipt.eml"
            file.write_bytes(receipt)
            assert "Verified." in wasl("verify", "--key", str(keys), str(file))
        file.write_bytes(after)
        assert "Verified." in wasl("verify", "--key", made["keys"][0], str(file))
        front.quiet()
        front.verify()
        process = front.wasl.child.process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        with serving(front.house, tmp_path / "again.log"):
            front.house.run("ledger", "head")
        stopped = front.house.rows("keys", "rotate-ledger")[0]  # and while nothing runs
        assert stopped["keys"][1:] == made["keys"]
        front.verify()


def _acceptance(front: Front) -> bytes:
    octets, message_id = letter()
    front.accept(octets, DIWAN)
    return front.receipts(message_id, "submitted")[0].octets


def told(front: Front, *words: str) -> tuple[int, str, str]:
    """``wasl reload`` at the terminal: status, standard output, standard error."""
    done = ready.run(["reload", *words, "--config", front.house.settings])
    return done.returncode, done.stdout, done.stderr


def test_a_stopped_gateway_keeps_its_word(tmp_path: Path, authority: Authority) -> None:
    """SIGTERM: the idle are told 421, a letter half read is taken, and the next life delivers it."""
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front:
        sink = front.sink(MOH)
        sink.script = lambda verb, line: b"450 4.2.0 not now" if verb == "RCPT" else None
        octets, message_id = letter()
        with front.session(MOF) as busy, front.session(MOF) as idle:
            for verb in (f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{DIWAN}>", "DATA"):
                assert busy.docmd(verb)[0] < 400
            wire = stuffed(octets)
            assert busy.sock is not None
            busy.sock.sendall(wire[:300])
            process = front.wasl.child.process
            process.send_signal(signal.SIGTERM)
            code, text = idle.getreply()
            assert (code, text[:5]) == (421, b"4.3.2")
            busy.sock.sendall(wire[300:])
            code, text = busy.getreply()
            assert code == 250
            number = text.decode().split()[-1]
            assert busy.getreply()[0] == 421
            assert process.wait(30) == 0
        assert sink.received == []
        sink.script = lambda verb, line: None
        with serving(front.house, tmp_path / "again.log"):
            (copy,) = front.arrived(MOH, message_id)
            assert header(copy.octets, "Wasl-Letter") == number
            front.receipts(message_id, "submitted")
            with pytest.raises(ServerFailed, match="data is"):
                front.house.run("serve")
            front.quiet()
        assert sink.duplicates() == {}
        front.verify()


def test_a_gateway_that_was_killed_goes_on(tmp_path: Path, authority: Authority) -> None:
    """SIGKILL between the 250 and the relay: nothing is lost, nothing is sent twice."""
    with gateway_front(tmp_path, authority, agencies=(MOF, MOH)) as front:
        sink = front.sink(MOH)
        sink.script = lambda verb, line: b"450 4.2.0 not now" if verb == "MAIL" else None
        sent = [letter() for _ in range(5)]
        for octets, _ in sent:
            front.accept(octets, DIWAN)
        front.wasl.child.kill()
        sink.script = lambda verb, line: None
        assert sink.received == []
        with serving(front.house, tmp_path / "again.log"):
            for _, message_id in sent:
                front.arrived(MOH, message_id)
                front.wait_standing(message_id, DIWAN, "sent", 2, "open")
            front.quiet()
        assert sink.duplicates() == {}
        front.verify()
