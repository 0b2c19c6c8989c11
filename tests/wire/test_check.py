"""``wasl check`` against servers that answer: next hops, sign-in servers and the DNS of DKIM keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.dkim_dns import published, resolver, silent
from gateway.hop_probe import probe_hop, probe_sign_in
from gateway.keys import make_keys, record_name, record_value
from gateway.setting_values import Endpoint
from gateway.sign import SigningKey
from policies.agency import NextHop, SignIn
from tests.servers.dns import SERVFAIL, SILENT, NameServer, name_server
from tests.servers.place import free_port
from tests.servers.sink import Sink
from tracker.model import Address

BACK = Address.parse("wasl-back@wasl.example")


@pytest.fixture
def names() -> Iterator[NameServer]:
    with name_server() as running:
        yield running


def hop(port: int, **more: object) -> NextHop:
    given: dict[str, object] = {"name": "MOF", "host": "127.0.0.1", "port": port, "tls": "none"}
    return NextHop(**(given | more))  # type: ignore[arg-type]


def test_a_next_hop_that_answers(sink: Sink) -> None:
    answer = probe_hop(hop(sink.port), "wasl.example", BACK)
    assert answer.error == "" and answer.offers
    assert sink.received == [], "a check sends no letter"


def test_lmtp(lmtp_sink: Sink) -> None:
    assert probe_hop(hop(lmtp_sink.port, protocol="lmtp"), "wasl.example", None).error == ""


def test_a_hop_that_does_not_know_the_way_back_is_told_of(sink: Sink) -> None:
    sink.answer_once("RCPT", b"550 5.7.1 no relaying")
    answer = probe_hop(hop(sink.port), "wasl.example", BACK)
    assert answer.error == "" and any("550 5.7.1 no relaying" in note for note in answer.notes)


def test_tls_that_is_required_and_not_offered(sink: Sink) -> None:
    assert "no STARTTLS" in probe_hop(hop(sink.port, tls="required"), "wasl.example").error


def test_nobody_there() -> None:
    assert "refused" in probe_hop(hop(free_port("127.0.0.1")), "wasl.example").error
    server = SignIn(kind="imap", host="127.0.0.1", port=free_port("127.0.0.1"), tls="none")
    assert "refused" in probe_sign_in(server, "wasl.example").error


def test_an_authority_file_that_is_none_is_words_not_an_exception(tmp_path: Path, sink: Sink) -> None:
    assert probe_hop(hop(sink.port, tls="required", ca=tmp_path / "nowhere.pem"), "wasl.example").error


def test_dkim_records(names: NameServer, tmp_path: Path) -> None:
    rsa, ed = (file.key for file in make_keys(tmp_path, "mof.example", "t"))
    ask = resolver([Endpoint(names.host, names.port)], 20.0)
    assert published(rsa, ask).endswith("is not published")
    names.add(record_name(rsa), "TXT", record_value(rsa))
    names.add(record_name(ed), "TXT", "some other record", record_value(ed))
    assert published(rsa, ask) == "" and published(ed, ask) == ""


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (["v=DKIM1; k=ed25519; p="], "is revoked"),
        (["v=DKIM1; k=ed25519; p=AAAA"], "publishes another key"),
        (["v=DKIM1; k=ed25519; p=AAAA", "v=DKIM1; p=BBBB"], "holds 2 key records"),
        (["v=spf1 -all"], "holds 0 key records"),
    ],
)
def test_wrong_dkim_records(names: NameServer, records: list[str], said: str) -> None:
    key = SigningKey.of(Ed25519PrivateKey.generate(), domain="mof.example", selector="t")
    names.add(record_name(key), "TXT", *records)
    assert said in published(key, resolver([Endpoint(names.host, names.port)], 20.0))


@pytest.mark.parametrize("how", [SILENT, SERVFAIL])
def test_a_name_server_that_fails_is_words_not_an_exception(names: NameServer, how: str) -> None:
    key = SigningKey.of(Ed25519PrivateKey.generate(), domain="mof.example", selector="t")
    names.fail(record_name(key), how)
    assert published(key, resolver([Endpoint(names.host, names.port)], 0.5))


def test_name_servers_that_answer_and_those_that_do_not(names: NameServer) -> None:
    names.fail("broken.example", SERVFAIL)
    ask = resolver([Endpoint(names.host, names.port)], 20.0)
    assert silent(ask, "wasl.example") == [] and silent(ask, "broken.example") == []  # any answer is one
    nobody = resolver([Endpoint("127.0.0.1", free_port("127.0.0.1"))], 0.5)
    ((place, why),) = silent(nobody, "wasl.example")
    assert place.startswith("127.0.0.1:") and why
