"""SPF, DKIM, DMARC and ARC of what comes in, through a whole gateway and a real name server."""

from __future__ import annotations

import itertools
import json
import socket
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dkim
import pytest
from sqlalchemy import select

from gateway.authentication_dns import REST
from gateway.keys import make_keys, record_name, record_value
from gateway.sign import SigningKey
from policies.load import LETTERS
from tests.servers.certificates import Authority
from tests.servers.dns import SILENT, NameServer, name_server
from tests.servers.place import free_port
from tests.wire.gateway_front import DOMAIN, FORWARDS, MOF, MOH, Front, gateway_front
from tests.wire.wire_letters import header, letter, return_address
from tracker import schema

pytestmark = pytest.mark.servers

DIWAN = "diwan@moh.gov.example"
WORLD = "author@world.example"


# What the world writes is a letter where this rule says so; by default a forward passes as it is.
RULE = """\
rules:
  - id: letters-of-the-world
    priority: 105
    description: {ar: كتب العالم, en: Letters of the world}
    match: {submitter: [FWD], author: [outside], recipient: agency}
    action: accept
    kind: letter
"""


def policy(root: Path) -> str:
    """A policy folder with that rule beside the usual ones."""
    folder = root / "policy"
    folder.mkdir()
    (folder / "letters.yaml").write_text(LETTERS.read_text("utf-8"), "utf-8")
    (folder / "world.yaml").write_text(RULE, "utf-8")
    return str(folder)


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A gateway that asks our name server, and the keys of a domain of the world."""

    front: Front
    names: NameServer
    key: SigningKey
    pem: bytes

    def signed(self, octets: bytes, domain: bytes = b"world.example", **more: Any) -> bytes:
        field: bytes = dkim.sign(octets, self.key.selector.encode(), domain, self.pem, **more)
        return field + octets

    def results(self, message_id: str) -> dict[str, str]:
        """What the record keeps of the checks."""
        with self.front.engine.connect() as conn:
            rows = conn.execute(
                select(schema.submission.c.facts)
                .join(schema.letter, schema.letter.c.id == schema.submission.c.letter_id)
                .where(schema.letter.c.message_id == message_id)
            )
            (facts,) = [json.loads(f) if isinstance(f, str) else f for (f,) in rows]
        return dict(facts.get("results", ()))

    def arc(self, octets: bytes) -> tuple[str, str]:
        """dkimpy's verdict on a chain."""

        def dns(name: bytes, timeout: int = 5) -> bytes:
            texts = self.names.records.get((name.decode().rstrip(".").lower(), "TXT"), [""])
            return texts[0].replace('" "', "").strip('"').encode()

        result, _, why = dkim.arc_verify(octets, dnsfunc=dns)
        return (result or b"").decode(), why


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Outside]:
    root = tmp_path_factory.mktemp("outside")
    rsa, _ = make_keys(root / "keys", "world.example", "s1")
    with name_server() as names:
        names.add(record_name(rsa.key), "TXT", record_value(rsa.key))
        names.add("_dmarc.world.example", "TXT", "v=DMARC1; p=reject")
        names.add("world.example", "TXT", "v=spf1 ip4:192.0.2.1 -all")
        names.add("friend.example", "TXT", f"v=spf1 ip4:{FORWARDS.bind} -all")
        names.add("_dmarc.friend.example", "TXT", "v=DMARC1; p=none")
        sections = {
            "dns": {"resolvers": [f"{names.host}:{names.port}"]},
            "authentication": {"timeout": "4s"},
            "policy": {"path": policy(root)},
        }
        with gateway_front(root, authority, sections=sections, agencies=(MOF, MOH, FORWARDS)) as front:
            for name, value in front.dkim.items():
                names.add(name, "TXT", value)
            for entry in tomllib.loads(front.house.settings.read_text("utf-8"))["dkim"]:
                path = front.house.root / entry["key_file"]
                own = SigningKey.load(path, domain=DOMAIN, selector=entry["selector"])
                names.add(record_name(own), "TXT", record_value(own))
            yield Outside(front=front, names=names, key=rsa.key, pem=rsa.path.read_bytes())


def test_a_forward_of_a_signed_letter(outside: Outside) -> None:
    """What came in is attested: in the facts, in Authentication-Results, and by an ARC set that holds."""
    front = outside.front
    octets, message_id = letter(DIWAN, author=WORLD)
    front.accept(outside.signed(octets), DIWAN, sender=WORLD, agency=FORWARDS)
    (copy,) = front.arrived(MOH, message_id)
    said = header(copy.octets, "Authentication-Results")
    assert said.startswith(f"{DOMAIN}; spf=fail smtp.mailfrom=world.example; ")
    assert "dkim=pass header.d=world.example header.s=s1-rsa" in said
    assert said.endswith("dmarc=pass header.from=world.example policy.dmarc=reject")
    assert outside.results(message_id) == {"spf": "fail", "dkim": "pass", "dmarc": "pass"}
    assert front.signatures(copy.octets) == []  # never in the name of the author's domain
    assert header(copy.octets, "ARC-Authentication-Results") == f"i=1; {said}"
    assert outside.arc(copy.octets) == ("pass", "success")
    assert "cv=none" in header(copy.octets, "ARC-Seal")


def test_a_chain_is_continued_and_a_broken_one_closed(outside: Outside) -> None:
    front = outside.front
    octets, message_id = letter(DIWAN, author=WORLD)
    front.accept(outside.signed(octets), DIWAN, sender=WORLD, agency=FORWARDS)
    (first,) = front.arrived(MOH, message_id)
    once = first.octets.replace(message_id.encode(), message_id.encode().replace(b"<", b"<again."))
    sealed = _restamped(outside, octets, "<again.")
    front.accept(sealed[0], DIWAN, sender=WORLD, agency=FORWARDS)
    (copy,) = front.arrived(MOH, sealed[1])
    assert outside.results(sealed[1])["arc"] == "pass"
    assert "arc=pass" in header(copy.octets, "Authentication-Results")
    assert outside.arc(copy.octets) == ("pass", "success")
    assert copy.octets.count(b"ARC-Seal: i=") == 2

    # Altered after it was sealed: the chain has failed for good.
    instance = header(once, "Wasl-Instance").encode()
    broken = once.replace(b"Wasl-Instance: " + instance + b"\r\n", b"")
    front.accept(broken, DIWAN, sender=WORLD, agency=FORWARDS)
    (copy,) = front.arrived(MOH, message_id.replace("<", "<again."))
    assert outside.results(message_id.replace("<", "<again."))["arc"] == "fail"
    assert outside.arc(copy.octets)[0] != "pass"


def _restamped(outside: Outside, octets: bytes, start: str) -> tuple[bytes, str]:
    """A letter with a Message-ID of its own, signed and sealed by a list of the world."""
    from gateway.arc_seal import seal_fields
    from gateway.sign import body_hash

    text, message_id = letter(DIWAN, author=WORLD)
    head = text[: text.index(b"\r\n\r\n") + 4]
    fields = seal_fields(
        head,
        body_hash(text, len(head)),
        outside.key,
        authserv_id="list.world.example",
        results="spf=pass smtp.mailfrom=world.example",
        chain="none",
        at_us=int(time.time() * 1e6),
    )
    return fields + text, message_id


def test_a_chain_of_ours_survives_a_mailbox_that_redirects(outside: Outside) -> None:
    """It comes back through us in our own name, and stays because it verifies."""
    front = outside.front
    octets, message_id = letter(DIWAN, author=WORLD)
    front.accept(outside.signed(octets), DIWAN, sender=WORLD, agency=FORWARDS)
    (copy,) = front.arrived(MOH, message_id)
    front.accept(copy.octets, "desk@mof.gov.example", sender=return_address(copy), agency=MOH)
    (again,) = front.arrived(MOF, message_id)
    assert outside.arc(again.octets) == ("pass", "success")
    assert again.octets.count(b"ARC-Seal:") == 1  # it was not altered, so it was not sealed again
    forged = copy.octets.replace(b"dkim=pass", b"dkim=fail")
    front.accept(forged, "legal@mof.gov.example", sender=return_address(copy), agency=MOH)
    assert b"ARC-Seal:" not in front.arrived(MOF, message_id, 2)[1].octets


def test_what_is_forged(outside: Outside) -> None:
    front = outside.front
    octets, message_id = letter(DIWAN, author=WORLD, more={"Authentication-Results": f"{DOMAIN}; dmarc=pass"})
    changed = outside.signed(octets).replace(b"X", b"Y").replace(b"\r\n\r\n", b"\r\n\r\nmore\r\n", 1)
    front.accept(changed, DIWAN, sender=WORLD, agency=FORWARDS)
    (copy,) = front.arrived(MOH, message_id)
    assert outside.results(message_id) == {"spf": "fail", "dkim": "fail", "dmarc": "fail"}
    assert copy.octets.count(b"Authentication-Results: " + DOMAIN.encode()) == 1
    assert "dmarc=pass" not in header(copy.octets, "Authentication-Results")


def test_spf_alone(outside: Outside) -> None:
    octets, message_id = letter(DIWAN, author="clerk@friend.example")
    outside.front.accept(octets, DIWAN, sender="clerk@friend.example", agency=FORWARDS)
    (copy,) = outside.front.arrived(MOH, message_id)
    assert outside.results(message_id) == {"spf": "pass", "dkim": "none", "dmarc": "pass"}
    assert outside.arc(copy.octets) == ("pass", "success")


def test_an_agencys_own_letter_asks_nobody(outside: Outside) -> None:
    """The hot path: no name is asked for, no set is put on, the results are none."""
    before = len(outside.names.asked)
    octets, message_id = letter(DIWAN)
    outside.front.accept(octets, DIWAN)
    (copy,) = outside.front.arrived(MOH, message_id)
    assert [name for name, _ in outside.names.asked[before:] if "mof.gov.example" in name] == []
    assert header(copy.octets, "Authentication-Results") == f"{DOMAIN}; none"
    assert b"ARC-" not in copy.octets
    assert outside.results(message_id) == {}
    assert outside.front.signatures(copy.octets) == ["ed25519-sha256", "rsa-sha256"]


def test_an_agencys_own_signature_is_verified_and_attested(outside: Outside) -> None:
    outside.names.add(f"{outside.key.selector}._domainkey.mof.gov.example", "TXT", record_value(outside.key))
    octets, message_id = letter(DIWAN)
    outside.front.accept(outside.signed(octets, b"mof.gov.example"), DIWAN)
    (copy,) = outside.front.arrived(MOH, message_id)
    assert outside.results(message_id) == {"dkim": "pass"}
    assert outside.front.signatures(copy.octets) == ["ed25519-sha256", "rsa-sha256"]
    assert outside.arc(copy.octets) == ("pass", "success")
    signed = header(copy.octets, "ARC-Message-Signature")
    assert signed.count("dkim-signature") == 3  # the agency's own and both of ours


def test_a_large_letter(outside: Outside) -> None:
    octets, message_id = letter(DIWAN, author=WORLD, text="a line of text\n" * 200_000)
    outside.front.accept(outside.signed(octets), DIWAN, sender=WORLD, agency=FORWARDS)
    (copy,) = outside.front.arrived(MOH, message_id)
    assert outside.results(message_id)["dkim"] == "pass"
    assert outside.arc(copy.octets) == ("pass", "success")


def test_names_that_are_not_answered_hold_no_letter_back(outside: Outside) -> None:
    for name in (f"{outside.key.selector}._domainkey.quiet.example", "quiet.example", "_dmarc.quiet.example"):
        outside.names.fail(name, SILENT)
    octets, message_id = letter(DIWAN, author="clerk@quiet.example")
    began = time.monotonic()
    outside.front.accept(
        outside.signed(octets, b"quiet.example"), DIWAN, sender="clerk@quiet.example", agency=FORWARDS
    )
    assert time.monotonic() - began < 30  # the deadline is four seconds, that of each of many questions five
    outside.front.arrived(MOH, message_id)
    assert outside.results(message_id) == {"spf": "temperror", "dkim": "temperror", "dmarc": "temperror"}


def heard(deaf: socket.socket) -> int:
    """How many questions have come to a socket that answers none."""
    for count in itertools.count():
        try:
            deaf.recv(4096)
        except BlockingIOError:
            return count
    raise AssertionError


def test_no_name_server_at_all(tmp_path: Path, authority: Authority) -> None:
    """Mail flows, and after a few letters nothing waits any more."""
    rsa, _ = make_keys(tmp_path / "keys", "world.example", "s1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", free_port("127.0.0.1")))
        sections = {
            "dns": {"resolvers": [f"127.0.0.1:{deaf.getsockname()[1]}"], "timeout": "1s"},
            "authentication": {"timeout": "1s"},
            "policy": {"path": policy(tmp_path)},
        }
        with gateway_front(tmp_path, authority, sections=sections, agencies=(MOF, MOH, FORWARDS)) as front:
            outside = Outside(
                front=front,
                names=NameServer(host="", port=0),
                key=rsa.key,
                pem=rsa.path.read_bytes(),
            )
            deaf.setblocking(False)
            for turn in range(6):
                author = f"author@world{turn}.example"
                octets, message_id = letter(DIWAN, author=author)
                signed = outside.signed(octets, f"world{turn}.example".encode())
                began = time.monotonic()
                front.accept(signed, DIWAN, sender=author, agency=FORWARDS)
                if asked := heard(deaf):
                    last = began
                else:
                    assert turn, "the first letter asks"
                if turn >= 3 and time.monotonic() - last < REST:
                    assert not asked, "nothing is asked while the resolver rests, and so nothing waits"
                front.arrived(MOH, message_id)
                assert set(outside.results(message_id).values()) == {"temperror"}
            assert "no name server answers" in front.wasl.log()
