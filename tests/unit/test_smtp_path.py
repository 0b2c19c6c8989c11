"""The arguments of MAIL and RCPT."""

from __future__ import annotations

import pytest

from gateway.desk import MailParams
from gateway.smtp_path import Offered, Refused, parse_mail, parse_rcpt
from tracker.model import NULL_PATH, Address, Recipient

PLAIN = Offered(extended=True, size=1000)
SECURE = Offered(extended=True, size=1000, tls=True, auth=True)


def rcpt(arg: str, offered: Offered = PLAIN, *, smtputf8: bool = False) -> Recipient:
    return parse_rcpt(arg, offered, smtputf8=smtputf8, hostname="mail.example")


def test_the_null_path_is_a_value() -> None:
    assert parse_mail("FROM:<>", PLAIN) == (NULL_PATH, MailParams())
    assert parse_mail("from:<> BODY=8bitmime", PLAIN)[1].body == "8BITMIME"


def test_parameters_keep_their_case() -> None:
    sender, params = parse_mail(
        "FROM:<Ali@MOF.example> SIZE=900 RET=hdrs ENVID=QQ314159+2B BODY=8BITMIME SMTPUTF8", PLAIN
    )
    assert sender == Address("Ali", "MOF.example")
    assert params == MailParams(size=900, ret="HDRS", envid="QQ314159+2B", body="8BITMIME", smtputf8=True)
    r = rcpt("TO:<B@moh.example> NOTIFY=success,Failure ORCPT=rfc822;Bob+2BX@Moh.example")
    assert r.notify == "SUCCESS,FAILURE" and r.orcpt == "rfc822;Bob+2BX@Moh.example"
    assert rcpt("TO:<b@moh.example> NOTIFY=NEVER").notify == "NEVER"


def test_quoted_local_parts_may_hold_brackets_and_spaces() -> None:
    assert rcpt('TO:<"a> b"@moh.example>').address.local == '"a> b"'
    assert parse_mail('FROM:<"x y"@mof.example> SIZE=1', PLAIN)[0].local == '"x y"'


def test_tricks_are_only_addresses() -> None:
    for text in ("a%other.example@moh.example", "other.example!a@moh.example", "a@[127.0.0.1]"):
        assert str(rcpt(f"TO:<{text}>").address) == text


def test_postmaster_needs_no_domain() -> None:
    assert rcpt("TO:<postMaster>").address == Address("postMaster", "mail.example")


def test_an_address_outside_ascii_needs_the_parameter() -> None:
    assert parse_mail("FROM:<علي@مالية.example> SMTPUTF8", PLAIN)[0].local == "علي"
    assert rcpt("TO:<علي@moh.example>", smtputf8=True).address.local == "علي"
    r = rcpt("TO:<a@moh.example> ORCPT=utf-8;علي@moh.example", smtputf8=True)
    assert r.orcpt == "utf-8;علي@moh.example"
    assert rcpt(r"TO:<a@moh.example> ORCPT=utf-8;\x{639}@moh.example").orcpt is not None


@pytest.mark.parametrize(
    "mark", "\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\ufff9\U000e0041"
)
def test_what_nobody_sees_is_in_no_address(mark: str) -> None:
    for text in (f"عل{mark}ي@moh.example", f"a@مو{mark}ه.example", f'"a{mark}b"@moh.example'):
        with pytest.raises(Refused) as refused:
            rcpt(f"TO:<{text}>", smtputf8=True)
        assert refused.value.reply.code == 553


def test_the_length_of_a_label_is_that_of_its_ascii_form() -> None:
    assert rcpt("TO:<b@" + "b" * 63 + ".example>")
    assert rcpt("TO:<b@[IPv6:2001:db8:1111:2222:3333:4444:5555:6666]>")
    long = "وزارةالتخطيطوالتعاونالدولي"  # 26 letters, 52 octets
    assert rcpt(f"TO:<b@{long}.example>", smtputf8=True).address.domain == f"{long}.example"
    assert rcpt("TO:<می\u200cخواهم@moh.example>", smtputf8=True)
    for label in ("b" * 64, "و" * 20 + "ي" * 20 + "ابتثجحخدذرزسشصضطظعغفقكلمنه"):
        with pytest.raises(Refused):
            rcpt(f"TO:<b@{label}.example>", smtputf8=True)


def test_requiretls_and_auth_only_where_offered() -> None:
    assert parse_mail("FROM:<a@mof.example> REQUIRETLS AUTH=<>", SECURE)[1].requiretls
    assert parse_mail("FROM:<a@mof.example> AUTH=e+3Dmc2@example.com", SECURE)


@pytest.mark.parametrize(
    ("arg", "start"),
    [
        ("FROM:a@mof.example", "501 5.5.4"),
        ("FROM:<a@mof.example", "501 5.5.4"),
        ("FROM:<a@mof.example>x", "501 5.5.4"),
        ("FROM:  <a@mof.example>", "501 5.5.4"),
        ("TO:<a@mof.example>", "501 5.5.4"),
        ("", "501 5.5.4"),
        ('FROM:<"a@mof.example>', "501 5.5.4"),
        ("FROM:<a@mof.example>>", "501 5.5.4"),
        ("FROM:<a>", "553 5.1.7"),
        ("FROM:< >", "553 5.1.7"),
        ("FROM:<@a.example,@b.example:c@d.example>", "553 5.1.7"),
        ("FROM:<a b@mof.example>", "553 5.1.7"),
        ("FROM:<a@mof..example>", "553 5.1.7"),
        ("FROM:<" + "a" * 65 + "@mof.example>", "553 5.1.7"),
        ("FROM:<a\x0b@mof.example>", "553 5.1.7"),
        ("FROM:<علي@mof.example>", "553 5.6.7"),
        ("FROM:<a@mof.example> SIZE", "501 5.5.4"),
        ("FROM:<a@mof.example> SIZE=", "501 5.5.4"),
        ("FROM:<a@mof.example> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@mof.example> SIZE=٣", "501 5.5.4"),
        ("FROM:<a@mof.example> SIZE=1 SIZE=1", "501 5.5.4"),
        ("FROM:<a@mof.example> SIZE=1001", "552 5.3.4"),
        ("FROM:<a@mof.example> SIZE=" + "9" * 21, "501 5.5.4"),
        ("FROM:<a@mof.example> BODY=BINARYMIME", "555 5.6.1"),
        ("FROM:<a@mof.example> BODY=9BIT", "501 5.5.4"),
        ("FROM:<a@mof.example> BODY", "501 5.5.4"),
        ("FROM:<a@mof.example> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<a@mof.example> \u017fMTPUTF8", "501 5.5.4"),
        ("FROM:<a@mof.example> RET=ALL", "501 5.5.4"),
        ("FROM:<a@mof.example> ENVID=a+2b", "501 5.5.4"),
        ("FROM:<a@mof.example> ENVID=a=b", "501 5.5.4"),
        ("FROM:<a@mof.example> ENVID=" + "e" * 101, "501 5.5.4"),
        ("FROM:<a@mof.example> REQUIRETLS", "555 5.5.4"),
        ("FROM:<a@mof.example> AUTH=<>", "555 5.5.4"),
        ("FROM:<a@mof.example> NOTIFY=NEVER", "555 5.5.4"),
        ("FROM:<a@mof.example> X-FOO=1", "555 5.5.4"),
        ("FROM:<a@mof.example> =1", "501 5.5.4"),
        ("FROM:<a@mof.example>\tSIZE=1", "501 5.5.4"),
    ],
)
def test_what_mail_refuses(arg: str, start: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_mail(arg, PLAIN)
    assert str(refused.value.reply).startswith(start)


@pytest.mark.parametrize(
    ("arg", "start"),
    [
        ("TO:<>", "553 5.1.3"),
        ("TO:<@a.example:c@d.example>", "553 5.1.3"),
        ("TO:<user>", "553 5.1.3"),
        ("TO:<علي@moh.example>", "553 5.6.7"),
        ("TO:<a@moh.example> NOTIFY=", "501 5.5.4"),
        ("TO:<a@moh.example> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("TO:<a@moh.example> NOTIFY=DELAY,DELAY", "501 5.5.4"),
        ("TO:<a@moh.example> NOTIFY=\u017fUCCESS", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=a@moh.example", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=rfc822;", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=;a", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=rfc822;a=b", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=rfc822;علي", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=utf-8;علي@moh.example", "501 5.5.4"),
        ("TO:<a@moh.example> ORCPT=rfc822;" + "a" * 500, "501 5.5.4"),
        ("TO:<a@moh.example> SIZE=1", "555 5.5.4"),
        ("TO:<a@moh.example> RET=FULL", "555 5.5.4"),
    ],
)
def test_what_rcpt_refuses(arg: str, start: str) -> None:
    with pytest.raises(Refused) as refused:
        rcpt(arg)
    assert str(refused.value.reply).startswith(start)


def test_no_parameters_after_helo() -> None:
    with pytest.raises(Refused) as refused:
        parse_mail("FROM:<a@mof.example> SIZE=1", Offered(extended=False, size=1000))
    assert refused.value.reply.code == 555


def test_a_long_path_costs_no_time() -> None:
    for text in ('FROM:<"' + '\\"' * 50_000, "FROM:<" + '""' * 50_000 + "x", "FROM:<" + "a" * 100_000):
        with pytest.raises(Refused):
            parse_mail(text, PLAIN)
