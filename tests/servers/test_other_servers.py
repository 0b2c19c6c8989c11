"""Exim, OpenDKIM and the name server do what the tests believe of them."""

from __future__ import annotations

import smtplib
import subprocess
from pathlib import Path

import dns.exception
import dns.resolver
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.certificates import Authority
from tests.servers.dns import SERVFAIL, SILENT, NameServer, name_server
from tests.servers.dovecot import Dovecot
from tests.servers.exim import exim
from tests.servers.opendkim import opendkim_signer, opendkim_verifier
from tests.servers.place import Place
from tests.servers.postfix import postfix
from tests.servers.sink import Sink, smtp_sink

LETTER = b"From: a@mof.example\r\nTo: b@moh.example\r\nSubject: x\r\n\r\nbody\r\n"

pytestmark = pytest.mark.servers


def send(
    port: int, sender: str, recipient: str, octets: bytes = LETTER, notify: str = "NOTIFY=FAILURE"
) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=90) as smtp:
        smtp.sendmail(sender, [recipient], octets, rcpt_options=[notify])


def test_exim_relays_delivers_and_reports(dovecot_server: Dovecot, authority: Authority) -> None:
    with (
        smtp_sink(tls=authority.context("127.0.0.1")) as sink,
        exim(
            domains=["moj1.example"],
            deliver_to=dovecot_server,
            relayhost=("127.0.0.1", sink.port),
            tls=authority.issue("mail.moj.example"),
        ) as server,
    ):
        send(server.port, "a@moj1.example", "b@moh.example", notify="NOTIFY=SUCCESS,FAILURE")
        (received,) = sink.wait()
        assert received.tls
        assert received.recipients[0].startswith(b"<b@moh.example> NOTIFY=SUCCESS,FAILURE")

        send(server.port, "b@moh.example", "a@moj1.example")
        assert b"Subject: x" in dovecot_server.maildir("a@moj1.example").wait()[0]

        sink.answer_once("RCPT", b"550 5.1.1 nobody")
        send(server.port, "c@moj1.example", "b@moh.example")
        (report,) = dovecot_server.maildir("c@moj1.example").wait()
        assert b"multipart/report" in report

        sink.answer_once("RCPT", b"450 4.2.0 later")
        send(server.port, "a@moj1.example", "d@moh.example")
        sink.wait(2)
        server.wait_empty()


def dkim_keys(folder: Path) -> tuple[Path, str]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    path = folder / "rsa.pem"
    path.write_bytes(pem)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return path, "v=DKIM1; k=rsa; p=" + "".join(public.decode().splitlines()[1:-1])


def test_opendkim_signs_and_verifies(place: Place, sink: Sink) -> None:
    key, public = dkim_keys(place.path)
    with (
        opendkim_verifier(keys={"s1._domainkey.mof.example": public}) as verifier,
        postfix(
            hostname="in.moh.example", relayhost=("127.0.0.1", sink.port), milter=verifier.socket
        ) as inbound,
        opendkim_signer(domain="mof.example", selector="s1", key=key) as signer,
        postfix(relayhost=("127.0.0.1", inbound.port), milter=signer.socket) as outbound,
    ):
        send(outbound.port, "a@mof.example", "b@moh.example")
        (received,) = sink.wait()
        assert b"dkim=pass" in received.octets, received.octets.decode() + inbound.log()

        send(
            inbound.port, "a@mof.example", "b@moh.example", received.octets.replace(b"\r\nbody", b"\r\nBODY")
        )
        assert b"dkim=fail" in sink.wait(2)[1].octets


def resolver(server: NameServer) -> dns.resolver.Resolver:
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = [server.host]
    made.port = server.port
    made.lifetime = 20
    return made


def test_the_name_server_answers_from_its_table() -> None:
    long = "v=DKIM1; p=" + "A" * 1500
    with name_server() as server:
        server.add("mof.example", "TXT", "v=spf1 ip4:127.0.0.1 -all")
        server.add("s1._domainkey.mof.example", "TXT", long)
        server.fail("bad.example", SERVFAIL)
        server.fail("slow.example", SILENT)
        ask = resolver(server)
        assert ask.resolve("MOF.example", "TXT")[0].strings == (b"v=spf1 ip4:127.0.0.1 -all",)
        assert b"".join(ask.resolve("s1._domainkey.mof.example", "TXT")[0].strings) == long.encode()
        with pytest.raises(dns.resolver.NXDOMAIN):
            ask.resolve("none.example", "TXT")
        with pytest.raises(dns.resolver.NoAnswer):
            ask.resolve("mof.example", "MX")
        with pytest.raises(dns.resolver.NoNameservers):
            ask.resolve("bad.example", "TXT")
        ask.lifetime = 0.5
        with pytest.raises(dns.resolver.LifetimeTimeout):
            ask.resolve("slow.example", "TXT")
        assert ("mof.example", "TXT") in server.asked


def test_postfix_runs_unpacked_where_the_host_has_another_server(sink: Sink) -> None:
    """On a host with another mail server the package cannot be installed, and the tests use this."""
    with postfix(relayhost=("127.0.0.1", sink.port), installed=False) as server:
        send(server.port, "a@mof.example", "b@moh.example")
        sink.wait()
        maps = subprocess.run(
            ["ls", "-l", f"/proc/{server.child.pid}/exe"], capture_output=True, text=True
        ).stdout
        assert str(server.place.path) in maps
