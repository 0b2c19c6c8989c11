"""The octets of a body arrive as they were sent, or the letter is returned; what is ours is put in once."""

from __future__ import annotations

import pytest

from tests.wire.gateway_front import MOF, MOH, Front, transaction
from tests.wire.wire_letters import body, header, letter, new_id

pytestmark = pytest.mark.servers

AUTHOR = "author@mof.gov.example"
DIWAN = "diwan@moh.gov.example"


def _long_line() -> bytes:
    return b"x" * 998 + b"\r\n"


SMIME = (  # signed by nobody; an encrypted one would be held
    b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
    b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7m\r\n",
    b"MCMGCSqGSIb3DQEHAqAWMBQCAQExADALBgkqhkiG9w0BBwExAA==\r\n",
)
PGP = (
    b'Content-Type: multipart/signed; micalg=pgp-sha256; protocol="application/pgp-signature"; '
    b"boundary=b\r\n",
    b"--b\r\nContent-Type: text/plain\r\n\r\nsigned  \r\n\ttext \r\n\r\n--b\r\n"
    b"Content-Type: application/pgp-signature\r\n\r\n-----BEGIN PGP SIGNATURE-----\r\nx\r\n--b--\r\n",
)
BODIES: dict[str, tuple[bytes, bytes]] = {
    "smime": SMIME,
    "pgp": PGP,
    "8bit": (
        b"Content-Type: text/plain; charset=windows-1256\r\nContent-Transfer-Encoding: 8bit\r\n",
        "كتاب رسمي\r\n".encode("cp1256"),
    ),
    "iso-8859-6": (
        b"Content-Type: text/plain; charset=iso-8859-6\r\nContent-Transfer-Encoding: 8bit\r\n",
        "كتاب رسمي\r\n".encode("iso-8859-6"),
    ),
    "utf8": (b"Content-Type: text/plain; charset=utf-8\r\n", "كتاب رسمي\r\n".encode()),
    "998": (b"", _long_line() * 3),
    "longer than any line may be": (b"", b"y" * 70_000 + b"\r\nz\r\n"),
    "controls and all high octets": (
        b"Content-Transfer-Encoding: 8bit\r\n",
        bytes(set(range(1, 256)) - {10, 13}) + b"\r\n",
    ),
    "dots": (b"", b".\r\n..\r\n...x\r\n.\r\n"),
    "blank-lines": (b"", b"\r\n\r\nx\r\n\r\n\r\n"),
    "trailing-spaces": (b"", b"x  \r\n\t\r\n \r\n"),
    "from-lines": (b"", b"From the beginning\r\n>From\r\n"),
    "empty": (b"", b""),
}


@pytest.mark.parametrize("name", BODIES)
def test_body_octets_arrive_identical(front: Front, name: str) -> None:
    fields, text = BODIES[name]
    message_id = new_id()
    head = f"From: {AUTHOR}\r\nTo: {DIWAN}\r\nSubject: octets {name}\r\nMessage-ID: {message_id}\r\n"
    octets = head.encode() + fields + b"\r\n" + text
    params = "" if text.isascii() else "BODY=8BITMIME"
    front.accept(octets, DIWAN, params=params)
    (copy,) = front.arrived(MOH, message_id)
    assert body(copy.octets) == text
    assert front.original(front.letter(message_id).id) == octets
    for field in fields.splitlines():
        assert field in copy.octets


def test_chunks_carry_the_same_octets(front: Front) -> None:
    """RFC 3030: no stuffing, cut anywhere, in lines and between CR and LF, the last chunk empty or not."""
    sent: dict[str, bytes] = {}
    with front.session(MOF) as smtp:
        assert smtp.sock is not None
        for number, (fields, text) in enumerate(BODIES.values()):
            message_id = new_id()
            head = f"From: {AUTHOR}\r\nTo: {DIWAN}\r\nSubject: chunks\r\nMessage-ID: {message_id}\r\n"
            octets = head.encode() + fields + b"\r\n" + text
            sent[message_id] = octets
            assert smtp.docmd("MAIL", f"FROM:<{AUTHOR}> BODY=8BITMIME")[0] == 250
            assert smtp.docmd("RCPT", f"TO:<{DIWAN}>")[0] == 250
            cuts = [octets[at : at + 97] for at in range(0, min(len(octets), 970), 97)] + [octets[970:]]
            last = cuts.pop() if number % 2 else b""
            chunks = [*((chunk, "") for chunk in cuts), (last, " LAST")]
            smtp.sock.sendall(b"".join(b"BDAT %d%s\r\n%s" % (len(c), e.encode(), c) for c, e in chunks))
            assert [smtp.getreply()[0] for _ in chunks] == [250] * len(chunks)
    for message_id, octets in sent.items():
        (copy,) = front.arrived(MOH, message_id)
        assert body(copy.octets) == body(octets)
        assert front.original(front.letter(message_id).id) == octets


def test_a_letter_to_very_many_arrives_once_at_each(front: Front) -> None:
    people = [f"person.{number}@moh.gov.example" for number in range(150)]
    octets, message_id = letter(", ".join(people))
    front.accept(octets, *people)
    front.quiet()
    copies = [r for r in front.sink(MOH).received if r.message_id == message_id.encode()]
    reached = [to[1 : to.index(b">")].decode() for copy in copies for to in copy.recipients]
    assert sorted(reached) == sorted(people)
    assert {body(copy.octets) for copy in copies} == {body(octets)}
    assert set(front.standing(message_id).values()) == {("sent", 2, "open")}


def test_what_has_no_final_newline_gets_the_one_that_data_cannot_leave_out(front: Front) -> None:
    octets = f"From: {AUTHOR}\r\nSubject: x\r\nMessage-ID: {(message_id := new_id())}\r\n\r\nno end".encode()
    with front.session(MOF) as smtp:
        for verb in (f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{DIWAN}>"):
            assert smtp.docmd(verb)[0] == 250
        assert smtp.sock is not None
        smtp.sock.sendall(b"BDAT %d\r\n%s" % (50, octets[:50]))
        assert smtp.getreply()[0] == 250
        smtp.sock.sendall(b"BDAT %d LAST\r\n%s" % (len(octets) - 50, octets[50:]))
        assert smtp.getreply()[0] == 250
    (copy,) = front.arrived(MOH, message_id)
    assert body(copy.octets) == b"no end\r\n"
    assert front.original(front.letter(message_id).id) == octets


def test_smtputf8_goes_through_with_its_addresses(front: Front) -> None:
    message_id = new_id()
    octets = (
        f"From: كاتب <كاتب@mof.gov.example>\r\nTo: ديوان@moh.gov.example\r\nSubject: موضوع بلا ترميز\r\n"
        f"Message-ID: {message_id}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nنص\r\n"
    ).encode()
    front.accept(
        octets, "ديوان@moh.gov.example", sender="كاتب@mof.gov.example", params="SMTPUTF8 BODY=8BITMIME"
    )
    (copy,) = front.arrived(MOH, message_id)
    assert copy.recipients[0].startswith("<ديوان@moh.gov.example>".encode())
    assert b"SMTPUTF8" in copy.sender
    assert body(copy.octets) == "نص\r\n".encode()
    (receipt,) = front.receipts(message_id, "submitted")
    assert receipt.recipients[0].startswith("<كاتب@mof.gov.example>".encode())


@pytest.mark.parametrize(
    ("recipient", "text", "params", "status"),
    [
        ("a@old.gov.example", "عربي", "BODY=8BITMIME", "5.6.3"),
        ("ا@old.gov.example", "x", "SMTPUTF8", "5.6.7"),
    ],
)
def test_what_the_next_hop_cannot_carry_is_returned(
    front: Front, recipient: str, text: str, params: str, status: str
) -> None:
    octets = (
        f"From: {AUTHOR}\r\nSubject: x\r\nMessage-ID: {(message_id := new_id())}\r\n\r\n{text}\r\n".encode()
    )
    front.accept(octets, recipient, params=params)
    front.wait_standing(message_id, recipient, "failed", 1, "failed")
    failed, _ = front.receipts(message_id, "failed", "submitted")
    assert f"Status: {status}".encode() in failed.octets


def test_requiretls_that_the_next_hop_lacks_is_returned(front: Front) -> None:
    octets, message_id = letter()
    with front.session(MOF) as smtp:
        smtp.starttls(context=front.authority.client())
        smtp.ehlo()
        assert transaction(smtp, octets, DIWAN, params="REQUIRETLS")[0] == 250
    front.wait_standing(message_id, DIWAN, "failed", 1, "failed")
    failed, _ = front.receipts(message_id, "failed", "submitted")
    assert b"Status: 5.7.30" in failed.octets


def test_fields_of_our_names_from_outside_do_not_get_in(front: Front) -> None:
    more = {"Wasl-Letter": "MOF/2020/999999", "Wasl-Verify": "https://evil.example/"}
    octets, message_id = letter(more=more | {"Authentication-Results": "wasl.gov.example; dkim=pass"})
    number = front.accept(octets, DIWAN)
    (copy,) = front.arrived(MOH, message_id)
    assert copy.octets.count(b"\r\nWasl-Letter:") + copy.octets.startswith(b"Wasl-Letter:") == 1
    assert header(copy.octets, "Wasl-Letter") == number
    assert b"evil.example" not in copy.octets and b"dkim=pass" not in copy.octets
