"""DMARC (RFC 7489): records, alignment, and what is made of SPF and DKIM; and how results are written."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.authentication_dmarc import Record, aligned, check, organisation, record_of
from gateway.authentication_results import Result, summary, text
from tests.unit.zone import SILENT, Zone
from tracker import header_writer


def dkim(domain: str, result: str = "pass") -> Result:
    return Result(method="dkim", result=result, properties=(("header.d", domain),))


def ask(
    records: dict[str, Any], author: str | None, *signatures: Result, spf: tuple[str, str] | None = None
) -> Result:
    zone = Zone({(name, "TXT"): value for name, value in records.items()})
    return asyncio.run(check(zone.lookups(), author, spf, signatures))


REJECT = {"_dmarc.mof.gov.jo": "v=DMARC1; p=reject"}


def test_organisations() -> None:
    assert organisation("mail.mof.gov.jo") == "mof.gov.jo"
    assert organisation("gov.jo") == "gov.jo"
    assert organisation("a.b.example.co.uk") == "example.co.uk"
    assert aligned("mail.mof.gov.jo", "mof.gov.jo", False)
    assert not aligned("mail.mof.gov.jo", "mof.gov.jo", True)
    assert not aligned("moh.gov.jo", "mof.gov.jo", False)  # a public suffix is nobody's


@pytest.mark.parametrize(
    ("texts", "record"),
    [
        (["v=DMARC1; p=none"], Record("none", "none")),
        (
            ["v=DMARC1;p=reject;sp=quarantine;adkim=s;aspf=s;pct=50"],
            Record("reject", "quarantine", True, True),
        ),
        (["V=DMARC1; p=none"], None),
        (["v=DMARC1 ; P=REJECT ; adkim = r"], Record("reject", "reject")),
        (["v=spf1 -all", "v=DMARC1; p=reject"], Record("reject", "reject")),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], None),
        (["v=DMARC12; p=reject"], None),
        (["p=reject; v=DMARC1"], None),
        (["v=DMARC1; p=other"], None),
        (["v=DMARC1"], None),
        (["v=DMARC1; p=other; rua=mailto:a@b.example"], Record("none", "none")),
        (["v=DMARC1; p=reject; =; ;x; p=none"], Record("reject", "reject")),
        ([], None),
    ],
)
def test_records(texts: list[str], record: Record | None) -> None:
    assert record_of([t.encode() for t in texts]) == record


def test_what_is_aligned_passes() -> None:
    assert ask(REJECT, "mof.gov.jo", dkim("mof.gov.jo")).result == "pass"
    assert ask(REJECT, "mof.gov.jo", dkim("mail.mof.gov.jo")).result == "pass"
    assert ask(REJECT, "mof.gov.jo", dkim("moh.gov.jo")).result == "fail"
    assert ask(REJECT, "mof.gov.jo", dkim("mof.gov.jo", "fail")).result == "fail"
    assert ask(REJECT, "mof.gov.jo", spf=("pass", "bounce.mof.gov.jo")).result == "pass"
    assert ask(REJECT, "mof.gov.jo", spf=("softfail", "mof.gov.jo")).result == "fail"
    assert ask(REJECT, "mof.gov.jo", spf=("pass", "")).result == "fail"
    strict = {"_dmarc.mof.gov.jo": "v=DMARC1; p=none; aspf=s; adkim=s"}
    assert ask(strict, "mof.gov.jo", dkim("mail.mof.gov.jo"), spf=("pass", "b.mof.gov.jo")).result == "fail"
    assert ask(strict, "mof.gov.jo", spf=("pass", "MOF.gov.jo")).result == "pass"


def test_what_cannot_be_known() -> None:
    assert ask({}, "mof.gov.jo").result == "none"
    assert ask(REJECT, "mof.gov.jo", dkim("mof.gov.jo", "temperror")).result == "temperror"
    assert ask(REJECT, "mof.gov.jo", dkim("x.example", "temperror")).result == "fail"
    assert ask({"_dmarc.mof.gov.jo": SILENT}, "mof.gov.jo", dkim("mof.gov.jo")).result == "temperror"
    assert ask(REJECT, None).result == "permerror"
    assert ask(REJECT, "mof..gov.jo").result == "permerror"


def test_a_subdomain_has_its_organisations_record() -> None:
    wish = {"_dmarc.mof.gov.jo": "v=DMARC1; p=none; sp=reject"}
    found = ask(wish, "desk.mof.gov.jo", dkim("mof.gov.jo"))
    assert (found.result, found.properties) == (
        "pass",
        (("header.from", "desk.mof.gov.jo"), ("policy.dmarc", "reject")),
    )
    own = wish | {"_dmarc.desk.mof.gov.jo": "v=DMARC1; p=quarantine; adkim=s"}
    assert ask(own, "desk.mof.gov.jo", dkim("mof.gov.jo")).result == "fail"


def test_names_of_other_scripts_are_the_same_name() -> None:
    record = {"_dmarc.xn--wgbh1c.xn--wgbh1c": "v=DMARC1; p=none"}
    assert ask(record, "مصر.مصر", dkim("xn--wgbh1c.xn--wgbh1c")).result == "pass"


@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda b: b"v=DMARC1; p=none;" + b)),
        max_size=4,
    )
)
def test_no_record_raises(texts: list[bytes]) -> None:
    record_of(texts)


# How results are written (RFC 8601 §2.2).


def test_what_is_said() -> None:
    some = (
        Result(method="spf", result="fail", properties=(("smtp.mailfrom", "a.example"),)),
        dkim("b.example"),
        replace(dkim("c.example", "permerror"), reason='no "key" \\ here'),
        Result(method="arc", result="temperror", properties=(("smtp.remote-ip", "2001:db8::1"),)),
    )
    assert text(some, "clerk@mof.example") == (
        "auth=pass smtp.auth=clerk@mof.example; spf=fail smtp.mailfrom=a.example; "
        "dkim=pass header.d=b.example; "
        'dkim=permerror reason="no key  here" header.d=c.example; arc=fail smtp.remote-ip="2001:db8::1"'
    )
    assert text((), None) == "none"
    assert summary(some) == (("spf", "fail"), ("dkim", "pass"), ("arc", "temperror"))


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=60))
def test_whatever_is_said_can_be_written(reason: str, value: str, account: str) -> None:
    one = Result(method="dkim", result="fail", reason=reason, properties=(("header.d", value),))
    said = text((one,), account)
    header_writer.structured("Authentication-Results", f"wasl.example; {said}")
    assert "\n" not in said and said.count('"') % 2 == 0
