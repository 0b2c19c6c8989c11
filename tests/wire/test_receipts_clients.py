"""Receipts as real programs see them: Dovecot's IMAP, mutt, and Chromium."""

from __future__ import annotations

import dataclasses
import imaplib
import os
import re
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.servers.dovecot import PASSWORD, Dovecot
from tracker.model import Address
from tracker.notice import GatewayIdentity, Kind, LetterFacts, Notice, RecipientFacts
from tracker.receipt_html import html
from tracker.receipts import compose, needs
from tracker.reply import EnhancedStatus
from tracker.states import Event

AT = 1_795_339_458_000_000
GATEWAY = GatewayIdentity(
    domain="wasl.gov.example",
    hostname="mx1.wasl.gov.example",
    zone=ZoneInfo("Asia/Amman"),
    verify_base="https://wasl.gov.example/verify",
)
LETTER = LetterFacts(
    author=Address.parse("receipts@mof.gov.example"),
    author_name="سامي حداد",
    accepted_us=AT,
    number="MOF/2026/000123",
    subject="كتاب بشأن مخصصات الموازنة لعام 2027 (Budget)",
    agency="MOF",
    agency_ar="وزارة المالية",
    agency_en="Ministry of Finance",
    message_id="<1@mof.gov.example>",
    sha256=bytes(range(32)),
    envid="QQ314159",
)
HEADER = b"From: receipts@mof.gov.example\r\nMessage-ID: <1@mof.gov.example>\r\nSubject: x\r\n"


def recipient(event: Event, address: str = "diwan@moh.gov.example") -> RecipientFacts:
    failed = event is Event.FAILED
    return RecipientFacts(
        address=Address.parse(address),
        event=event,
        at_us=AT + 60_000_000,
        agency="MOH",
        agency_ar="وزارة الصحة",
        agency_en="Ministry of Health",
        status=EnhancedStatus(5, 1, 1) if failed else None,
        reply="550 5.1.1 <diwan@moh.gov.example>: Recipient address rejected" if failed else "",
        remote_mta="mail.moh.gov.example",
        disposition="manual-action/MDN-sent-manually; displayed" if event is Event.READ else "",
    )


def notice(kind: Kind, *people: RecipientFacts) -> Notice:
    return Notice(
        kind=kind,
        gateway=GATEWAY,
        letter=LETTER,
        recipients=people or (recipient(Event(kind.value)),),
        at_us=AT + 61_000_000,
        original_headers=HEADER,
        evidence=b'{"version":"1"}',
        proof=b"c2sp.org/tlog-proof@v1\n",
    )


def deliver(server: Dovecot, mailbox: str, octets: bytes) -> None:
    with smtplib.LMTP(server.host, server.lmtp_port) as lmtp:
        wants = needs(octets)
        options = ["SMTPUTF8"] * wants.smtputf8 + ["BODY=8BITMIME"] * wants.eightbit
        assert lmtp.sendmail("", [mailbox], octets, mail_options=options) == {}


@pytest.fixture
def imap(dovecot_server: Dovecot) -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4(dovecot_server.host, dovecot_server.imap_port)
    client.login("receipts@mof.gov.example", PASSWORD)
    yield client
    client.logout()


def fetched(client: imaplib.IMAP4, kind: Kind, what: str) -> str:
    client.select("INBOX")
    _, found = client.search(None, "HEADER", "Wasl-Receipt", kind.value)
    _, data = client.fetch(found[0].split()[-1].decode(), what)
    return b" ".join(x if isinstance(x, bytes) else b" ".join(x) for x in data if x).decode()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (Kind.SUBMITTED, r'"alternative".*"evidence\.json".*"proof\.txt".*"mixed"'),
        (
            Kind.FAILED,
            r'"alternative".*"message" "delivery-status".*"text" "rfc822-headers".*"evidence\.json".*'
            r'"proof\.txt".*"report" \("report-type" "delivery-status"',
        ),
        (
            Kind.READ,
            r'"alternative".*"message" "disposition-notification".*"report" '
            r'\("report-type" "disposition-notification"',
        ),
    ],
)
def test_a_server_sees_the_parts_that_were_meant(
    dovecot_server: Dovecot, imap: imaplib.IMAP4, kind: Kind, shape: str
) -> None:
    octets = compose(notice(kind))
    deliver(dovecot_server, "receipts@mof.gov.example", octets)
    structure = fetched(imap, kind, "(BODYSTRUCTURE)")
    assert re.search(shape, structure, re.IGNORECASE | re.DOTALL), structure
    envelope = fetched(imap, kind, "(ENVELOPE)")
    assert "<1@mof.gov.example>" in envelope
    # Dovecot adds its own fields in front; what follows is what was composed, octet for octet.
    imap.select("INBOX")
    _, found = imap.search(None, "HEADER", "Wasl-Receipt", kind.value)
    _, data = imap.fetch(found[0].split()[-1].decode(), "(BODY.PEEK[])")
    assert isinstance(data[0], tuple)
    assert data[0][1].endswith(octets)


@pytest.mark.servers
def test_the_subject_can_be_searched_for_by_number_and_by_arabic_words(
    dovecot_server: Dovecot, imap: imaplib.IMAP4
) -> None:
    deliver(dovecot_server, "receipts@mof.gov.example", compose(notice(Kind.DELIVERED)))
    imap.select("INBOX")
    _, by_number = imap.search(None, "SUBJECT", '"[MOF/2026/000123]"', "HEADER", "Wasl-Receipt", "delivered")
    assert by_number[0].split()
    imap.literal = "مخصصات الموازنة".encode()  # type: ignore[attr-defined]
    _, by_words = imap.search("UTF-8", "HEADER", "Wasl-Receipt", "delivered", "SUBJECT")
    assert by_words[0].split()


@pytest.mark.servers
def test_a_report_with_arabic_addresses_is_delivered_and_understood(
    dovecot_server: Dovecot, imap: imaplib.IMAP4
) -> None:
    octets = compose(notice(Kind.RELAYED, recipient(Event.RELAYED, "ديوان@صحة.example")))
    deliver(dovecot_server, "receipts@mof.gov.example", octets)
    structure = fetched(imap, Kind.RELAYED, "(BODYSTRUCTURE)")
    assert '"message" "global-delivery-status"' in structure.lower()


def mutt(folder: Path, octets: bytes, *commands: str) -> str:
    """What mutt makes of a message in a maildir of its own, piped out as text."""
    box = folder / "box"
    for name in ("cur", "new", "tmp"):
        (box / name).mkdir(parents=True, exist_ok=True)
    (box / "new" / "1.1.host").write_bytes(octets.replace(b"\r\n", b"\n"))
    out = folder / "out.txt"
    config = folder / "muttrc"
    lines = [
        "set charset=utf-8 send_charset=utf-8 mbox_type=Maildir mark_old=no quit=yes",
        f"set folder={folder} spoolfile={box} record='' postponed='' header_cache=''",
        "set pipe_decode=yes wait_key=no beep=no abort_key='\\\\c]'",
        "alternative_order text/plain text/html",
        f"push '<pipe-message>cat > {out}<enter><exit>'",
        *commands,
    ]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = shutil.which("mutt")
    assert program is not None, "mutt is not installed: make setup installs it"
    environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    script = shutil.which("script")
    assert script is not None
    subprocess.run(
        [script, "-qec", f"{program} -n -R -F {config} -f {box}", "/dev/null"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return out.read_text(encoding="utf-8")


@pytest.mark.servers
def test_mutt_shows_the_text_the_report_and_the_header(tmp_path: Path) -> None:
    seen = mutt(tmp_path, compose(notice(Kind.FAILED)))
    assert "Subject: إشعار تعذّر التسليم: [MOF/2026/000123] كتاب بشأن مخصصات الموازنة" in seen
    assert "وصل (Wasl)" in seen
    assert "تعذّر تسليم كتابكم" in seen and "could not be delivered" in seen
    assert "Final-Recipient: rfc822; diwan@moh.gov.example" in seen
    assert "Diagnostic-Code: smtp; 550 5.1.1" in seen
    assert "Message-ID: <1@mof.gov.example>" in seen
    assert "unsupported" not in seen.split("evidence.json")[0]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"],
        )
        yield browser
        browser.close()


HOSTILE = "\u202egpj.exe <script>document.title='broken'</script> " + "x" * 300


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 760])
@pytest.mark.parametrize("many", [1, 12])
def test_a_browser_sets_it_within_the_width_in_both_directions(
    chromium: Browser, tmp_path: Path, width: int, many: int
) -> None:
    people = [recipient(Event.FAILED, f"{'a' * 60}{i}@{'b' * 60}.gov.example") for i in range(many)]
    made = notice(Kind.FAILED, *(dataclasses.replace(p, reply=HOSTILE, reason_ar=HOSTILE) for p in people))
    made = dataclasses.replace(made, letter=dataclasses.replace(LETTER, subject=HOSTILE))
    file = tmp_path / "receipt.html"
    file.write_text(html(made), encoding="utf-8")
    page = chromium.new_page(viewport={"width": width, "height": 600})
    wanted: list[str] = []
    page.on("request", lambda request: wanted.append(request.url))
    page.goto(file.as_uri())
    assert page.title() == "إشعار تعذّر التسليم"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.compatMode") == "CSS1Compat"
    directions = page.evaluate(
        "[...document.querySelectorAll('td[lang]')].map(e => [e.lang, getComputedStyle(e).direction])"
    )
    assert directions == [["ar", "rtl"], ["en", "ltr"]]
    assert wanted == [file.as_uri()], "a receipt fetches nothing"
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(chromium: Browser, tmp_path: Path, scheme: str) -> None:
    """WCAG 1.4.3, with the muted lines' opacity counted: 4.5 to 1 for text, 3 to 1 for marks."""
    file = tmp_path / "receipt.html"
    file.write_text(html(notice(Kind.FAILED)), encoding="utf-8")
    page = chromium.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(file.as_uri())
    found = page.evaluate(
        """() => [...document.querySelectorAll('td,div,p,bdi,span,a')].map(e => {
            const style = getComputedStyle(e);
            let opacity = 1;
            for (let at = e; at; at = at.parentElement) opacity *= +getComputedStyle(at).opacity;
            return [style.color, opacity, e.tagName, style.borderRightColor, style.borderRightWidth];
        })"""
    )
    ground = (255, 255, 255) if scheme == "light" else (18, 18, 18)
    for colour, opacity, tag, _, _ in found:
        channels = [float(x) for x in re.findall(r"[\d.]+", colour)[:3]]
        mixed = [opacity * c + (1 - opacity) * g for c, g in zip(channels, ground, strict=True)]
        assert contrast(mixed, ground) >= (3 if tag == "SPAN" else 4.5), (colour, opacity, tag)
    page.close()


def contrast(one: list[float], other: tuple[int, int, int]) -> float:
    """The contrast ratio of WCAG 2."""

    def luminance(colour: list[float]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    a, b = sorted((luminance(one), luminance([float(c) for c in other])), reverse=True)
    return (a + 0.05) / (b + 0.05)
