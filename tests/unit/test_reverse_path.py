"""Return addresses: found again whatever servers do to their case, never guessed, secrets rotated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.instance import Instance
from gateway.reverse_path import ReversePath, Token, TokenKind
from tracker.model import NULL_PATH, Address

OLD, NEW = b"o" * 32, b"n" * 32
DOMAIN = "wasl.gov.jo"
IDS = st.integers(0, (1 << 63) - 1)


@given(number=IDS)
def test_a_delivery_comes_back(number: int) -> None:
    paths = ReversePath(NEW, DOMAIN)
    address = paths.address_for(number)
    assert Address.parse(str(address)) == address
    assert address.ascii and len(address.local) == 37
    for shown in (address, Address.parse(str(address).upper()), Address.parse(str(address).swapcase())):
        assert paths.parse(shown) == Token(TokenKind.DELIVERY, number)


@given(number=IDS, hop=st.text(max_size=40))
def test_a_letter_at_a_hop_comes_back(number: int, hop: str) -> None:
    paths = ReversePath(NEW, DOMAIN)
    address = paths.for_letter_hop(number, hop)
    assert len(address.local) == 45
    token = paths.parse(Address.parse(str(address).upper()))
    assert token is not None
    assert (token.kind, token.id) == (TokenKind.LETTER_HOP, number)
    assert token.is_hop(hop) and not token.is_hop(hop + "x")


@given(number=IDS, at=st.integers(0, 36), to=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_changed_character_is_no_address_of_ours(number: int, at: int, to: str) -> None:
    paths = ReversePath(NEW, DOMAIN)
    local = paths.address_for(number).local
    changed = local[:at] + to + local[at + 1 :]
    assert (paths.parse(Address(changed, DOMAIN)) is None) == (changed != local)


def test_secrets_rotate() -> None:
    before, between, after = (
        ReversePath(OLD, DOMAIN),
        ReversePath([NEW, OLD], DOMAIN),
        ReversePath([NEW], DOMAIN),
    )
    old = before.address_for(7)
    assert between.parse(old) == Token(TokenKind.DELIVERY, 7)
    assert after.parse(old) is None
    assert between.address_for(7) == after.address_for(7) != old


@pytest.mark.parametrize(
    "text",
    [
        "wasl-@wasl.gov.jo",
        "wasl-" + "a" * 32 + "@wasl.gov.jo",
        "wasl-" + "a" * 31 + "@wasl.gov.jo",
        "wasl-" + "1" * 32 + "@wasl.gov.jo",
        "wasl-" + "a" * 30 + "\u212a" * 2 + "@wasl.gov.jo",
        "x" * 37 + "@wasl.gov.jo",
        '"wasl-' + "a" * 31 + '"@wasl.gov.jo',
        "postmaster@wasl.gov.jo",
    ],
)
def test_others_are_not_ours(text: str) -> None:
    assert ReversePath(NEW, DOMAIN).parse(Address.parse(text)) is None


def test_another_domain_or_none_is_not_ours() -> None:
    paths = ReversePath(NEW, DOMAIN)
    own = paths.address_for(1)
    assert paths.parse(Address(own.local, "wasl.gov.jo.example")) is None
    assert paths.parse(NULL_PATH) is None
    assert paths.is_shaped(own) and not paths.is_shaped(Address(own.local, "other.gov.jo"))


def test_the_kind_is_under_the_mac() -> None:
    paths = ReversePath(NEW, DOMAIN)
    assert paths.address_for(5).local[5:37] != paths.for_letter_hop(5, "MOH").local[5:37]


def test_a_weak_secret_is_refused() -> None:
    for secrets in (b"short", [], [NEW, b""]):
        with pytest.raises(ValueError, match="16 octets"):
            ReversePath(secrets, DOMAIN)
        with pytest.raises(ValueError, match="16 octets"):
            Instance(secrets, DOMAIN)


@given(number=IDS)
def test_an_instance_knows_its_own_letters(number: int) -> None:
    ours, renewed, other = (
        Instance(OLD, "Wasl.gov.jo"),
        Instance([NEW, OLD], DOMAIN),
        Instance(NEW, "b.example"),
    )
    value = ours.value(number).encode()
    assert renewed.seen([other.value(3).encode(), value.replace(b"; ", b";\t").upper()]) == (number,)
    assert other.seen([value]) == Instance(NEW, DOMAIN).seen([value]) == ()
    again = ours.value(number ^ 1).encode()
    assert ours.seen([again, value, again]) == (number ^ 1, number)


def test_junk_is_no_instance() -> None:
    ours = Instance(OLD, DOMAIN)
    good = ours.value(1 << 40)
    for junk in (
        "",
        "x" * 100_000,
        "wasl.gov.jo; id=; mac=",
        good[:-1],
        good + "0",
        good.replace("id=", "id=\r\n"),
    ):
        assert ours.seen([junk.encode()]) in ((), (1 << 40,) if junk.count("\r") else ())
