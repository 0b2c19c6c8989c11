"""SPF (RFC 7208): what each term matches, the limits, and that no record makes it raise."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.authentication_spf import Spf, check_host
from tests.unit.zone import SILENT, Zone

PEER = "192.0.2.7"
PEER6 = "2001:db8::cb01"


def ask(zone: Zone, peer: str = PEER, sender: str = "clerk@a.example", helo: str = "mail.a.example") -> Spf:
    return asyncio.run(check_host(zone.lookups(), peer, sender.rpartition("@")[2], sender, helo))


def spf(record: str, peer: str = PEER, **records: object) -> str:
    """The result of one record at a.example, beside records such as ``A__b_example="192.0.2.7"``."""
    zone = Zone({("a.example", "TXT"): record})
    for key, value in records.items():
        kind, _, name = key.partition("__")
        zone.records[name.replace("_", "."), kind] = value
    return ask(zone, peer).result


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1", "neutral"),
        ("v=spf1 -all", "fail"),
        ("v=spf1 ~all", "softfail"),
        ("V=SPF1 ?ALL", "neutral"),
        ("v=spf1  ip4:192.0.2.0/24  -all", "pass"),
        ("v=spf1 ip4:192.0.2.7 -all", "pass"),
        ("v=spf1 ip4:192.0.2.8 -all", "fail"),
        ("v=spf1 -ip4:192.0.2.7 all", "fail"),
        ("v=spf1 ip6:2001:db8::/32 -all", "fail"),
        ("v=spf1 moo=%{d} ip4:192.0.2.7", "pass"),
        ("v=spf1 exp=why.%{d} -all", "fail"),
        # Wrong anywhere is wrong everywhere (§4.6).
        ("v=spf1 ip4:192.0.2.7 all:x", "permerror"),
        ("v=spf1 ip4:192.0.2.7 ip4:192.0.2.300", "permerror"),
        ("v=spf1 ip4:192.0.2.7 ip4:192.0.2.0/33", "permerror"),
        ("v=spf1 ip4:192.0.2.7 ip4:192.0.2.0/024", "permerror"),
        ("v=spf1 ip4:192.0.2.7 ip6:2001:db8::%eth0", "permerror"),
        ("v=spf1 ip4:192.0.2.7 include", "permerror"),
        ("v=spf1 ip4:192.0.2.7 exists:", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a:b.example/", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a/33", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a//129", "permerror"),
        ("v=spf1 ip4:192.0.2.7 ptr/24", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a:%{c}.b.example", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a:%{d0}.b.example", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a:b.%(d).example", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a:b.111", "permerror"),
        ("v=spf1 ip4:192.0.2.7 a:nodots", "permerror"),
        ("v=spf1 ip4:192.0.2.7 unknown:b.example", "permerror"),
        ("v=spf1 ip4:192.0.2.7 redirect=b.example redirect=b.example", "permerror"),
        ("v=spf1 ip4:192.0.2.7 exp=b.example exp=b.example", "permerror"),
        ("v=spf1 ip4:192.0.2.7 \u0661", "permerror"),
        ("v=spf1 ip4:192.0.2.7" + " mx" * 2000, "permerror"),
        # Not a record at all.
        ("v=spf10 -all", "none"),
        ("spf2.0/pra -all", "none"),
        ("", "none"),
    ],
)
def test_a_record_by_itself(record: str, result: str) -> None:
    assert spf(record) == result


def test_terms_that_ask() -> None:
    assert spf("v=spf1 a -all", A__a_example=PEER) == "pass"
    assert spf("v=spf1 a/24 -all", A__a_example="192.0.2.200") == "pass"
    assert spf("v=spf1 a:b.example//64 -all", PEER6, AAAA__b_example="2001:db8::1") == "pass"
    assert spf("v=spf1 a:b.example -all", A__b_example="192.0.2.8") == "fail"
    assert spf("v=spf1 mx -all", MX__a_example=("m.example",), A__m_example=PEER) == "pass"
    assert spf(
        "v=spf1 exists:%{ir}.%{v}.x.example -all", **{"A__7_2_0_192_in-addr_x_example": "127.0.0.2"}
    ) == ("pass")
    assert spf("v=spf1 include:b.example -all", TXT__b_example="v=spf1 ip4:192.0.2.7 -all") == "pass"
    assert spf("v=spf1 include:b.example -all", TXT__b_example="v=spf1 -all") == "fail"
    assert spf("v=spf1 include:b.example -all") == "permerror"
    assert spf("v=spf1 redirect=b.example", TXT__b_example="v=spf1 ~all") == "softfail"
    assert spf("v=spf1 redirect=b.example") == "permerror"
    assert spf("v=spf1 -all redirect=b.example") == "fail"
    ptr = {"PTR__7_2_0_192_in-addr_arpa": ("x.a.example",), "A__x_a_example": PEER}
    assert spf("v=spf1 ptr -all", **ptr) == "pass"
    assert spf("v=spf1 ptr:b.example -all", **ptr) == "fail"


def test_macros_take_their_parts() -> None:
    """The examples of RFC 7208 §7.4, by the name that is asked for."""
    zone = Zone()
    for macro in (
        "%{s}", "%{o}", "%{d}", "%{d4}", "%{d3}", "%{d2}", "%{d1}", "%{dr}", "%{d2r}",
        "%{l}", "%{l-}", "%{lr}", "%{lr-}", "%{l1r-}",
    ):  # fmt: skip
        zone.records["email.example.com", "TXT"] = f"v=spf1 exists:{macro}.z.example -all"
        ask(zone, sender="strong-bad@email.example.com")
    assert [name.removesuffix(".z.example") for name, kind in zone.asked if kind == "A"] == [
        "strong-bad@email.example.com",
        "email.example.com",
        "email.example.com",
        "email.example.com",
        "email.example.com",
        "example.com",
        "com",
        "com.example.email",
        "example.email",
        "strong-bad",
        "strong.bad",
        "strong-bad",
        "bad.strong",
        "strong",
    ]


def test_names_are_never_asked_without_end() -> None:
    many = " ".join(f"a:h{i}.example" for i in range(11))
    zone = Zone({("a.example", "TXT"): f"v=spf1 {many} -all"})
    for i in range(11):
        zone.records[f"h{i}.example", "A"] = "192.0.2.99"
    assert ask(zone) == Spf("permerror", "more than 10 terms that ask name servers")
    assert spf("v=spf1 a:x.example a:y.example -all") == "fail"
    assert spf("v=spf1 a:x.example a:y.example a:z.example -all") == "permerror"  # three find nothing
    assert spf("v=spf1 include:a.example -all") == "permerror"
    assert spf("v=spf1 redirect=a.example") == "permerror"
    hosts = tuple(f"m{i}.example" for i in range(11))
    assert spf("v=spf1 mx -all", MX__a_example=hosts) == "permerror"
    assert len(zone.asked) < 15


def test_no_domain_is_none_and_silence_is_temperror() -> None:
    assert ask(Zone(), sender="x@nodots").result == "none"
    assert ask(Zone(), sender="x@[192.0.2.1]").result == "none"
    assert ask(Zone(), sender=f"x@{'a' * 64}.example").result == "none"
    assert ask(Zone(), peer="unknown").result == "none"
    assert spf("v=spf1 a -all", A__a_example=SILENT) == "temperror"
    assert ask(Zone({("a.example", "TXT"): SILENT})).result == "temperror"
    assert ask(Zone({("a.example", "TXT"): ("v=spf1 -all", "v=spf1 +all")})).result == "permerror"
    assert ask(Zone({("a.example", "TXT"): "v=spf1 ip4:192.0.2.7"}), peer="::ffff:192.0.2.7").result == "pass"


WORDS = st.sampled_from(
    [
        *(
            "v=spf1",
            "all",
            "-all",
            "a",
            "mx",
            "ptr",
            "include:",
            "exists:",
            "redirect=",
            "exp=",
            "ip4:",
            "ip6:",
        ),
        *("a.example", "%{d}", "%{ir}", "%{p}", "%{", "%%", "//", "/24", "/33", "192.0.2.7", "2001:db8::"),
        *(".", "-", "~", "?", "+", "=", ":", "\x00", "\xff"),
    ]
)
RECORD = st.one_of(
    st.binary(max_size=200).map(lambda b: b"v=spf1 " + b),
    st.lists(WORDS, max_size=12).map(lambda w: ("v=spf1 " + " ".join(w)).encode()),
    st.lists(WORDS, max_size=12).map(lambda w: ("v=spf1 " + "".join(w)).encode()),
)


@given(record=RECORD, other=RECORD, name=st.text(max_size=20))
@settings(max_examples=150)
def test_no_record_makes_it_raise(record: bytes, other: bytes, name: str) -> None:
    zone = Zone({("a.example", "TXT"): record, ("7.2.0.192.in-addr.arpa", "PTR"): (name, "a.example")})
    zone.records["a.example", "A"] = "192.0.2.1"
    zone.records["b.example", "TXT"] = other
    found = ask(zone, sender=f"{name}@a.example", helo=name)
    assert found.result in {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}
    assert len(zone.asked) <= 140
