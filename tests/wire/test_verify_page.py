"""The verify page over a whole gateway: what it tells, what it never tells, files hashed in Chromium."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, FilePayload, Page
from sqlalchemy import select

from dashboard.turnstile import Turnstile
from tests.servers.certificates import Authority
from tests.wire.chromium import Seen, window
from tests.wire.dashboard_house import House, serve
from tests.wire.gateway_front import MOF, MOH, MOJ, Front, gateway_front
from tests.wire.wire_letters import as_sent, header, new_id
from tracker import schema
from tracker.verify_code import VerifyCodes

pytestmark = pytest.mark.servers

DIWAN, BLIND = "diwan@moh.gov.example", "legal@moj.gov.example"
SUBJECT = "كتاب بشأن مخصصات الموازنة"
PDF = b"%PDF-1.4\n" + bytes(range(256)) * 40
LOOKS = os.environ.get("WASL_LOOKS")  # a folder for pictures of what a person sees


@dataclass
class Case:
    front: Front
    original: bytes
    copy: bytes  # as it came to the agency's server
    receipt: bytes
    number: str
    code: str

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.front.wasl.ports['dashboard']}"

    def get(self, path: str) -> tuple[int, str]:
        return ask(f"{self.base}{path}")


def ask(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    request = Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urlopen(request, timeout=90) as answer:
            return answer.status, answer.read().decode()
    except OSError as error:
        status: int = getattr(error, "code", 0)
        return status, error.read().decode() if hasattr(error, "read") else str(error)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Case]:
    with gateway_front(tmp_path_factory.mktemp("verify"), authority, agencies=(MOF, MOH, MOJ)) as front:
        message = EmailMessage(policy=email.policy.SMTP)
        message["From"] = "ليلى الخطيب <author@mof.gov.example>"
        message["To"] = DIWAN
        message["Subject"] = SUBJECT
        message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0300"
        message["Message-ID"] = message_id = new_id()
        message.set_content("السلام عليكم ورحمة الله،\n\nتجدون المخصصات في المرفق.  \n")
        message.add_attachment(PDF, maintype="application", subtype="pdf", filename="الموازنة.pdf")
        original = message.as_bytes()
        number = front.accept(original, DIWAN, BLIND)
        (copy,) = front.arrived(MOH, message_id)
        (receipt,) = front.receipts(message_id, "submitted")
        front.quiet()
        link = header(copy.octets, "Wasl-Verify")
        assert header(receipt.octets, "Wasl-Verify") == link
        assert link in receipt.octets.decode(errors="replace")  # the Verify line
        path, _, code = link.partition("?code=")
        assert path == f"http://127.0.0.1/verify/{number}"
        yield Case(front, original, as_sent(copy.octets), as_sent(receipt.octets), number, code)


# What it tells.


def test_who_has_number_and_code_is_told_both_ends_the_day_and_how_far(case: Case) -> None:
    status, page = case.get(f"/verify/{case.number}?code={case.code}")
    assert status == 200
    assert page.count(f">{case.number}<") == 1
    assert "المالية" in page or "MOF" in page
    assert "لم تتغيّر" in page and re.search(r'class="done"', page)
    for secret in (SUBJECT, "الخطيب", "author@", "diwan@", "legal@", "MOJ", "الموازنة"):
        assert secret not in page, secret
    typed = case.number.lower().translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    sloppy = case.code.upper().replace("-", " ")
    status, again = case.get(f"/verify?number={quote(typed)}&code={quote(sloppy)}")
    assert status == 200 and case.number in again
    with case.front.engine.connect() as conn:
        c = schema.audit.c
        seen = conn.execute(select(c.object, c.account, c.detail).where(c.action == "verified")).all()
    assert {row.object for row in seen} == {case.number} and {row.account for row in seen} == {""}


def test_a_wrong_code_and_a_number_that_nobody_has_are_answered_alike(case: Case) -> None:
    other = "0" if case.code[0] != "0" else "1"
    wrong = case.get(f"/verify/{case.number}?code={other}{case.code[1:]}")
    nobody = case.get(f"/verify/MOF/2026/999999?code={case.code}")
    assert wrong[0] == nobody[0] == 404
    strip = re.compile(r'value="[^"]*"|name="next" value="[^"]*"|/verify/[^"]*')
    assert strip.sub("", wrong[1]) == strip.sub("", nobody[1])
    assert case.get(f"/verify?number={case.number}")[0] == 422
    assert case.get("/verify")[0] == 200


def test_only_our_own_page_may_ask_about_a_file(case: Case) -> None:
    question = json.dumps({"number": case.number, "code": case.code}).encode()
    kind = {"Content_Type": "application/json"}
    assert ask(f"{case.base}/verify/file", question, **kind)[0] == 403
    assert ask(f"{case.base}/verify/file", question, **kind, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(f"{case.base}/verify/file", question, **kind, Sec_Fetch_Site="same-origin")[0] == 200
    bad_ones: list[Any] = [{"whole": ["x"]}, {"parts": ["0" * 64] * 301}, {"own": "0" * 64}, []]
    for bad in bad_ones:
        status, _ = ask(
            f"{case.base}/verify/file", json.dumps(bad).encode(), **kind, Sec_Fetch_Site="same-origin"
        )
        assert status == 400, bad


def test_one_address_may_not_ask_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks, per_s, _ = Turnstile.__init__.__defaults__ or ()
    monkeypatch.setattr(Turnstile.__init__, "__defaults__", (asks, per_s, lambda: 0.0))  # no time passes
    house = House.build(tmp_path, letters=False)
    with serve(Public(house)) as url:
        codes = [ask(f"{url}/verify/MOF/2026/000001?code=00000-0000{n % 10}")[0] for n in range(35)]
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{url}/verify/MOF/2026/000001?code=00000-00000", timeout=30)
        told = refused.value.headers["Retry-After"]
        assert told in ("1", "2")  # thirty a minute: one more after two seconds
    house.close()
    assert codes[:30] == [404] * 30 and codes[30:] == [429] * 5


@dataclass
class Public:
    """A dashboard with the verify page switched on."""

    house: House

    def desk(self, base_url: str, /) -> Any:
        from dataclasses import replace

        return replace(self.house.desk(base_url), verify=VerifyCodes([b"x" * 32]))


def test_where_it_is_switched_off_there_is_no_such_page(tmp_path: Path) -> None:
    house = House.build(tmp_path, letters=False)
    with serve(house) as url:
        assert [ask(f"{url}{path}")[0] for path in ("/verify", "/verify/MOF/2026/000001?code=x")] == [
            404,
            404,
        ]
    house.close()


def test_asks_come_back_with_time_and_a_network_counts_as_one() -> None:
    now = [0.0]
    gate = Turnstile(asks=3, per_s=30, clock=lambda: now[0])
    assert [gate.wait("192.0.2.1") for _ in range(4)] == [0, 0, 0, 10]
    assert gate.wait("192.0.2.2") == 0
    now[0] = 10
    assert [gate.wait("192.0.2.1") for _ in range(2)] == [0, 10]
    assert [gate.wait(f"2001:db8::{n}") for n in range(4)] == [0, 0, 0, 10]
    assert gate.wait("2001:db8:0:1::1") == 0


def test_a_code_is_short_and_cannot_be_had_without_the_secret() -> None:
    codes = VerifyCodes([b"a" * 32])
    code = codes.of("MOF/2026/000123")
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}", code)
    assert codes.fits("MOF/2026/000123", code) and codes.fits("mof/2026/000123", f" {code.upper()}")
    assert not codes.fits("MOF/2026/000124", code) and not codes.fits("MOF/2026/000123", code[:-1])
    assert not codes.fits("MOF/2026/000123", "") and not codes.fits("MOF/2026/000123", "٠٠٠٠٠-٠٠٠٠٠")
    renewed = VerifyCodes([b"b" * 32, b"a" * 32])
    assert renewed.fits("MOF/2026/000123", code) and renewed.of("MOF/2026/000123") != code
    assert len({codes.of(f"MOF/2026/{n:06d}") for n in range(20_000)}) == 20_000


# In a browser.


def rewritten(octets: bytes) -> bytes:
    """What a server makes of a letter that writes its MIME anew: other encodings, other lines in front."""
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    text, _ = message.iter_parts()
    assert isinstance(text, EmailMessage)
    text.set_content(text.get_content(), cte="quoted-printable", charset="windows-1256")
    for name in ("DKIM-Signature", "ARC-Seal"):
        del message[name]
    return b"Return-Path: <x@y.example>\r\nReceived: from a by b; Sun, 22 Nov 2026\r\n" + message.as_bytes()


def changed(octets: bytes) -> bytes:
    """The attachment is another one."""
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    _, pdf = message.iter_parts()
    assert isinstance(pdf, EmailMessage)
    pdf.set_content(PDF + b"!", maintype="application", subtype="pdf", filename="الموازنة.pdf")
    return message.as_bytes()


def give(page: Page, name: str, octets: bytes) -> tuple[str, list[str]]:
    """Choose a file; the verdict's class and its lines."""
    page.goto("/verify")
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.post_data or "") if r.method == "POST" else None)
    page.set_input_files("[data-file]", {"name": name, "mimeType": "message/rfc822", "buffer": octets})
    page.wait_for_selector("#answer > *")
    only_digests(asked)
    fit = page.locator(".fit")
    if not fit.count():
        return "fault", [page.locator("#answer .fault").inner_text()]
    return (fit.get_attribute("class") or "").split()[-1], fit.locator("li, p b").all_inner_texts()


def only_digests(asked: list[str]) -> None:
    """No octet of the file, no name of a part: digests, and the number and code that the letter bears."""
    for question in asked:
        told = json.loads(question)
        assert set(told) <= {"number", "code", "whole", "own", "text", "parts", "evidence", "kind"}
        for key in ("whole", "own", "text", "parts", "evidence"):
            assert all(re.fullmatch("[0-9a-f]{64}", one) for one in told[key])


@pytest.mark.browser
def test_a_letter_out_of_a_mailbox_is_known_again(case: Case, chromium: Browser) -> None:
    with window(chromium, case.base) as (page, seen):
        assert give(page, "copy.eml", case.copy)[0] == "ok"
        assert "بايتاً ببايت" in page.locator(".fit").inner_text()
        assert (
            page.input_value("[name=number]") == case.number and page.input_value("[name=code]") == case.code
        )
        assert page.locator("html").get_attribute("dir") == "rtl"
        look(page, "whole-ar")
        added = b"Return-Path: <x@y.example>\r\nReceived: from a by b; Sun, 22 Nov 2026 07:00:00 +0000\r\n"
        assert give(page, "mailbox.eml", (added + case.copy).replace(b"\r\n", b"\n"))[0] == "ok"
        assert "بايتاً ببايت" in page.locator(".fit").inner_text()
        verdict, lines = give(page, "exchange.eml", rewritten(case.copy))
        assert verdict == "ok" and len(lines) == 3
        assert lines[2].startswith("الموازنة.pdf: لم يتغيّر")
        look(page, "parts-ar")
        quiet(seen)


@pytest.mark.browser
def test_the_authors_own_copy_is_found_without_number_and_code(case: Case, chromium: Browser) -> None:
    with window(chromium, case.base) as (page, seen):
        assert give(page, "sent.eml", case.original)[0] == "ok"
        assert page.locator(".told .number").inner_text() == case.number
        verdict, (said,) = give(page, "foreign.eml", case.original.replace(b"10:00", b"11:00"))
        assert verdict == "fault" and "لم يمرّ" in said
        quiet(seen)


@pytest.mark.browser
def test_what_was_changed_is_named_part_by_part_in_english_too(case: Case, chromium: Browser) -> None:
    with window(chromium, case.base) as (page, seen):
        page.goto("/verify")
        page.click("form.language button")
        verdict, lines = give(page, "changed.eml", changed(case.copy))
        assert verdict == "warn"
        assert page.locator("html").get_attribute("dir") == "ltr"
        assert lines[1:] == [
            "Text of the letter: unchanged",
            "الموازنة.pdf: changed, or not of this letter",
            "1 part of the letter is not in this file",
        ]
        look(page, "changed-en")
        quiet(seen)


def evidence_of(receipt: bytes, old: str = "", new: str = "") -> bytes:
    """The evidence.json of a receipt, a word of it replaced."""
    message = email.message_from_bytes(receipt, policy=email.policy.SMTP)
    (found,) = (part for part in message.walk() if part.get_filename() == "evidence.json")
    octets = found.get_payload(decode=True)
    assert isinstance(octets, bytes) and old.encode() in octets
    return octets.replace(old.encode(), new.encode())


def with_evidence(receipt: bytes, octets: bytes) -> bytes:
    message = email.message_from_bytes(receipt, policy=email.policy.SMTP)
    for part in message.walk():
        if part.get_filename() == "evidence.json":
            part.set_payload(octets)
            del part["Content-Transfer-Encoding"]
    return message.as_bytes()


@pytest.mark.browser
def test_a_receipt_is_known_as_one_and_its_evidence_is_compared(case: Case, chromium: Browser) -> None:
    grade = '"grade":1'
    with window(chromium, case.base) as (page, seen):
        page.goto("/verify")
        page.click("form.language button")
        verdict, lines = give(page, "receipt.eml", case.receipt)
        assert verdict == "ok" and lines[0].startswith("This file is a receipt, and its evidence stands")
        assert lines[1] == "1 record of evidence compared with the ledger"
        assert page.locator(".told .number").inner_text() == case.number
        look(page, "receipt-en")

        forged = with_evidence(case.receipt, evidence_of(case.receipt, grade, '"grade":7'))
        verdict, lines = give(page, "forged.eml", forged)
        assert verdict == "stop" and "it was changed, or speaks of another letter" in lines[0]
        assert lines[1].endswith("found there: 0")
        bare = with_evidence(case.receipt, b"{}")
        verdict, lines = give(page, "bare.eml", bare)
        assert verdict == "warn" and lines == [
            "This file is a receipt, and carries no evidence that could be compared."
        ]
        nameless = case.receipt.replace(b"Wasl-Letter:", b"X-1:").replace(b"Wasl-Verify:", b"X-2:")
        verdict, lines = give(page, "nameless.eml", nameless)
        assert verdict == "fault" and lines[0].startswith("This file is a receipt or a report, not a letter")

        # The saved evidence alone, and a receipt beside its letter.
        page.goto(f"/verify/{case.number}?code={case.code}")
        choose(page, ("evidence.json", evidence_of(case.receipt)))
        page.wait_for_selector(".fit.ok")
        choose(page, ("receipt.eml", case.receipt), ("letter.eml", case.copy))
        page.locator("#answer > h2").nth(1).wait_for()
        assert page.locator("#answer > h2").all_inner_texts() == ["receipt.eml", "letter.eml"]
        told = page.locator(".fit.ok p b").all_inner_texts()
        assert "is a receipt" in told[0] and "is the letter, octet for octet" in told[1]
        quiet(seen)


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    page.set_input_files(
        "[data-file]",
        [FilePayload(name=name, mimeType="text/plain", buffer=octets) for name, octets in files],
    )


@pytest.mark.browser
def test_another_file_is_asked_by_its_own_number(case: Case, chromium: Browser) -> None:
    """What the page took from one file is not held against the next; what a person typed is."""
    other = case.receipt.replace(case.number.encode(), b"MOF/2026/999999")
    with window(chromium, case.base) as (page, seen):
        give(page, "copy.eml", case.copy)
        choose(page, ("other.eml", other))
        page.wait_for_selector("#answer .fault")
        assert page.input_value("[name=number]") == "MOF/2026/999999"
        page.fill("[name=number]", case.number)
        choose(page, ("receipt.eml", other))
        page.wait_for_selector(".told")
        assert page.input_value("[name=number]") == case.number
        quiet(seen)


@pytest.mark.browser
def test_an_attachment_alone_is_held_against_its_letter(case: Case, chromium: Browser) -> None:
    with window(chromium, case.base, width=390, scheme="dark") as (page, seen):
        for octets, verdict in ((PDF, "ok"), (PDF + b"!", "stop")):
            page.goto(f"/verify/{case.number}?code={case.code}")
            page.set_input_files(
                "[data-file]", {"name": "الموازنة.pdf", "mimeType": "application/pdf", "buffer": octets}
            )
            page.wait_for_selector(f".fit.{verdict}")
        look(page, "attachment-ar-dark")
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0
        quiet(seen)


@pytest.mark.browser
def test_without_script_number_and_code_are_enough(case: Case, chromium: Browser) -> None:
    context = chromium.new_context(base_url=case.base, java_script_enabled=False)
    page = context.new_page()
    page.goto("/verify")
    assert not page.locator("[data-drop]").is_visible()
    page.fill("[name=number]", case.number)
    page.fill("[name=code]", case.code)
    page.click("button.main")
    assert page.locator(".told .number").inner_text() == case.number
    assert urlsplit(page.url).path == "/verify"
    context.close()


def quiet(seen: Seen) -> None:
    assert seen.complaints == [] and seen.foreign == []


def look(page: Page, name: str) -> None:
    if LOOKS:
        page.screenshot(path=f"{LOOKS}/{name}.png", full_page=True)
