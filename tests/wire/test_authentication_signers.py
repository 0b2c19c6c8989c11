"""Letters that OpenDKIM behind Postfix signed are verified by us, and our ARC sets travel through both."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.arc_seal import seal_fields
from gateway.keys import record_name, record_value
from gateway.sign import SigningKey, body_hash
from tests.servers.opendkim import opendkim_signer, opendkim_verifier
from tests.servers.postfix import Postfix, postfix
from tests.servers.sink import Sink
from tests.unit.test_arc import ours as chain_of
from tests.unit.test_authentication_dkim import results
from tests.unit.zone import Zone
from tests.wire.wire_letters import header, letter

pytestmark = pytest.mark.servers

KEY = SigningKey.of(generate_private_key(65537, 2048), domain="mof.example", selector="s1")
NAME = record_name(KEY).rstrip(".")
ZONE = {(NAME, "TXT"): record_value(KEY)}


def through(server: Postfix, sink: Sink, octets: bytes) -> bytes:
    """What comes out behind a Postfix with a milter."""
    with smtplib.SMTP("127.0.0.1", server.port, "desk.example", 30) as smtp:
        smtp.sendmail("author@mof.example", ["diwan@moh.example"], octets)
    return sink.wait(1)[-1].octets


@pytest.mark.parametrize("canon", ["simple/simple", "relaxed/relaxed"])
def test_a_signature_of_opendkim(tmp_path: Path, sink: Sink, canon: str) -> None:
    pem = tmp_path / "key.pem"
    pem.write_bytes(KEY.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    settings = f"Canonicalization {canon}\nOversignHeaders From\n"
    octets, _ = letter("diwan@moh.example", author="author@mof.example", text="Words  and\t more \n\n.\n\n\n")
    with (
        opendkim_signer(domain="mof.example", selector="s1", key=pem, settings=settings) as milter,
        postfix(milter=milter.socket, relayhost=("127.0.0.1", sink.port)) as server,
    ):
        signed = through(server, sink, octets)
    (found,) = results(signed, Zone(dict(ZONE)))
    assert found.result == "pass", found
    (found,) = results(signed.replace(b"Words", b"words"), Zone(dict(ZONE)))
    assert found.result == "fail"


def test_an_arc_set_travels_through_postfix(sink: Sink) -> None:
    octets, _ = letter("diwan@moh.example", author="author@mof.example")
    head = octets[: octets.index(b"\r\n\r\n") + 4]
    fields = seal_fields(
        head,
        body_hash(octets, len(head)),
        KEY,
        authserv_id="mof.example",
        results="none",
        chain="none",
        at_us=10**15,
    )
    with (
        opendkim_verifier(keys={NAME: record_value(KEY)}) as milter,
        postfix(milter=milter.socket, relayhost=("127.0.0.1", sink.port)) as server,
    ):
        came = through(server, sink, fields + octets)
    assert "verifier.example" in header(came, "Authentication-Results")
    assert chain_of(came, Zone(dict(ZONE))).result == "pass"
