"""What policy decides, carried out by a running gateway: holds, other mailboxes, copies, TLS, rates, notices.

The rules stand in the gateway's own policy folder; who approves sits at the terminal (``wasl hold``).
"""

from __future__ import annotations

import email
import email.policy
import json
import time
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from sqlalchemy import select

from tests.servers.certificates import Authority
from tests.servers.place import wait_until
from tests.servers.sink import Received, smtp_sink
from tests.wire.gateway_front import MOF, MOH, MOJ, SHADOW, Front, gateway_front, hop
from tests.wire.wire_letters import header, letter, return_address
from tracker import schema
from tracker.model import id_text

HOUR = 3600 * 1_000_000

RULES = """\
rules:
  - id: hold-once
    priority: 101
    description: {ar: يراجعه شخص, en: One person looks at it}
    match: {subject_contains: [ONE-EYE]}
    action: hold
    hold: {approvers: [compliance], persons: 1, expires: 2h, then: refuse}
    reply: {code: 550, status: 5.7.1, en: "Not in these words, please", ar: "لا يُرسل بهذه الصيغة"}
  - id: hold-twice
    priority: 102
    description: {ar: يراجعه شخصان, en: Two persons look at it}
    match: {subject_contains: [TWO-EYES]}
    action: hold
    hold: {approvers: [compliance], persons: 2}
  - id: hold-briefly
    priority: 103
    description: {ar: مهلة قصيرة, en: A short time}
    match: {subject_contains: [BRIEFLY]}
    action: hold
    hold: {approvers: [compliance], expires: 1m, then: release}
  - id: to-the-registry
    priority: 104
    description: {ar: إلى الديوان, en: To the registry}
    match: {subject_contains: [ROUTED]}
    mailbox: registry@moh.gov.example
  - id: copy-to-security
    priority: 105
    description: {ar: نسخة إلى الأمن, en: A copy for security}
    match: {subject_contains: [COPIED]}
    copy: [security@moj.gov.example]
  - id: over-tls
    priority: 106
    description: {ar: مشفّر فقط, en: Over TLS only}
    match: {subject_contains: [ENCRYPTED-WAY]}
    require_tls: true
  - id: not-so-many
    priority: 107
    description: {ar: عدد محدود, en: Not so many}
    match: {subject_contains: [BULK]}
    limit: {per: mailbox, count: 2, window: 1h, then: reject}
    reply: {code: 450, status: 4.7.1, en: "Too many letters", ar: "كتب كثيرة"}
  - id: marked
    priority: 108
    description: {ar: عادي بمهلة, en: Ordinary with a due date}
    match: {subject_contains: [MARKED]}
    classification: ordinary
    due: 48h
    subject_tag: "[{number}] [{classification}]"
  - id: tell-security
    priority: 109
    description: {ar: يُخبر الأمن, en: Security is told}
    match: {subject_contains: [TOLD]}
    notify: [security@moj.gov.example]
  - id: told-to-registry
    priority: 109
    description: {ar: الإشعارات للديوان, en: Receipts for the registry}
    match: {subject_contains: [RECEIPTS]}
    receipts_to: [author, clerk@mof.gov.example]
  - id: by-another-way
    priority: 109
    description: {ar: طريق آخر, en: Another way}
    match: {subject_contains: [ANOTHER-WAY]}
    hop: MOJ
  - id: would-refuse
    priority: 109
    mode: shadow
    description: {ar: للتجربة, en: On trial}
    match: {subject_contains: [ON-TRIAL]}
    action: reject
    reply: {code: 550, status: 5.7.1, en: "No", ar: "لا"}
  - id: no-such-word
    priority: 109
    description: {ar: مرفوض, en: Refused}
    match: {subject_contains: [FORBIDDEN], recipient_agency: [MOJ]}
    action: reject
    reply: {code: 550, status: 5.7.1, en: "Not to this agency", ar: "ليس إلى هذه الجهة"}
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Front]:
    """A gateway whose policy folder has these rules before its own."""
    with gateway_front(tmp_path_factory.mktemp("acts"), authority, agencies=(MOF, MOH, MOJ, SHADOW)) as front:
        (front.house.root / "policy" / "acts.yaml").write_text(RULES, "utf-8")
        front.reload()
        wait_until(
            lambda: front.wasl.log().count("policy version") >= 1 or "fault" in front.wasl.log(),
            "the rules in force",
            hint=front.wasl.log,
        )
        assert "fault" not in front.wasl.log(), front.wasl.log()
        yield front


def send(front: Front, subject: str, *to: str, **more: Any) -> str:
    """Hand a letter in that must be accepted; its Message-ID."""
    octets, message_id = letter(subject=subject, to=", ".join(to or ("diwan@moh.gov.example",)))
    front.accept(octets, *(to or ("diwan@moh.gov.example",)), **more)
    return message_id


def held(front: Front, message_id: str) -> list[dict[str, Any]]:
    """The holds of a letter."""
    h = schema.hold.c
    with front.engine.connect() as conn:
        rows = conn.execute(select(schema.hold).where(h.letter_id == front.letter(message_id).id))
        return [dict(row._mapping) | {"id": id_text(row.id)} for row in rows]


def act(front: Front, what: str, hold_id: str, *more: str, who: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One person's act at the terminal; its answer."""
    monkeypatch.setenv("SUDO_USER", who)
    (line,) = front.house.run("hold", what, hold_id, "--json", *more, may_fail=True).splitlines()
    return json.loads(line)


def bodies(received: Received) -> str:
    """A receipt's text with its base64 parts decoded."""
    message = email.message_from_bytes(received.octets, policy=email.policy.default)
    return "\n".join(
        str(part.get_content()) for part in message.walk() if part.get_content_type() == "text/plain"
    )


def nothing_at(front: Front, code: str, message_id: str) -> None:
    assert not [r for r in list(front.sinks[code].received) if r.message_id == message_id.encode()]


def test_a_held_letter_is_accepted_and_goes_out_when_somebody_agrees(
    house: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = send(house, "كتاب ONE-EYE")
    house.receipts(message_id, "submitted", "held")
    assert house.standing(message_id) == {"diwan@moh.gov.example": ("held", 1, "open")}
    number = house.letter(message_id).number
    (one,) = [row for row in house.house.rows("hold", "list") if row["number"] == number]
    assert (one["rule"], one["needs"], one["recipient"]) == ("hold-once", 1, "diwan@moh.gov.example")
    assert abs(one["expires_us"] - one["since_us"] - 2 * HOUR) < HOUR // 60
    shown = house.house.run("hold", "show", one["id"])
    assert "hold-once" in shown and one["number"] in shown
    nothing_at(house, "MOH", message_id)
    done = act(house, "release", one["id"], "--note", "read it", who="salma", monkeypatch=monkeypatch)
    assert (done["state"], done["error"]) == ("released", "")
    house.arrived(MOH, message_id)
    house.wait_standing(message_id, "diwan@moh.gov.example", "sent", 2, "open")
    events = [(e.event, e.detail.get("person"), e.detail.get("note")) for e in house.evidence(message_id)]
    assert ("released", "salma", "read it") in events
    again = act(house, "release", one["id"], who="omar", monkeypatch=monkeypatch)
    assert "decided already" in again["error"]
    house.verify()


def test_two_different_persons_agree(house: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    message_id = send(house, "كتاب TWO-EYES")
    (one,) = held(house, message_id)
    first = act(house, "release", one["id"], who="salma", monkeypatch=monkeypatch)
    assert (first["state"], first["approvals"], first["needs"]) == ("open", 1, 2)
    same = act(house, "release", one["id"], who="salma", monkeypatch=monkeypatch)
    assert "twice" in same["error"]
    author = act(house, "release", one["id"], who="author", monkeypatch=monkeypatch)
    assert "author" in author["error"]
    queue = house.house.run("queue", "release", house.letter(message_id).number, "--json", may_fail=True)
    assert "wasl hold" in json.loads(queue)["error"]
    nothing_at(house, "MOH", message_id)
    assert act(house, "release", one["id"], who="omar", monkeypatch=monkeypatch)["state"] == "released"
    house.arrived(MOH, message_id)
    assert [e.event for e in house.evidence(message_id)][:4] == ["submitted", "held", "approved", "released"]


def test_a_refusal_is_told_to_the_author_and_the_number_stays(
    house: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = send(house, "كتاب ONE-EYE", params="RET=HDRS")
    number = house.letter(message_id).number
    (one,) = held(house, message_id)
    done = act(house, "refuse", one["id"], "--note", "wrong annex", who="salma", monkeypatch=monkeypatch)
    assert (done["state"], done["error"]) == ("refused", "")
    receipts = house.receipts(message_id, "submitted", "held", "refused")
    refusal = next(r for r in receipts if header(r.octets, "Wasl-Receipt") == "refused")
    assert b"Action: failed" in refusal.octets and b"Status: 5.7.1" in refusal.octets
    assert b"Not in these words, please" in refusal.octets
    assert "wrong annex" in bodies(refusal) and "يراجعه شخص" in bodies(refusal)
    assert refusal.sender.startswith(b"<>")
    assert house.standing(message_id) == {"diwan@moh.gov.example": ("refused", 1, "failed")}
    assert house.letter(message_id).number == number
    nothing_at(house, "MOH", message_id)


def test_many_are_decided_from_a_list(house: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [send(house, f"كتاب ONE-EYE {n}") for n in range(3)]
    ids = [row["id"] for message_id in letters for row in held(house, message_id)]
    monkeypatch.setenv("SUDO_USER", "salma")
    out = house.house.run("hold", "release", "-", "--json", words="\n".join(ids) + "\n")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["released"] * 3
    for message_id in letters:
        house.arrived(MOH, message_id)
    assert "no hold" in house.house.run("hold", "release", "nothing", "--json", may_fail=True)


def test_when_nobody_decides_the_rule_does(house: Front) -> None:
    message_id = send(house, "كتاب BRIEFLY")
    (one,) = held(house, message_id)
    with house.engine.begin() as conn:  # the time of the rule is a minute: let it be over
        conn.execute(schema.hold.update().where(schema.hold.c.rule == "hold-briefly").values(expires_us=1))
    house.arrived(MOH, message_id)
    assert one["at_expiry"] == "release"
    assert house.evidence(message_id)[2].source == "timer"


def test_a_letter_is_routed_to_another_mailbox(house: Front) -> None:
    octets, message_id = letter(subject="كتاب ROUTED")
    house.accept(octets, "desk@moh.gov.example", "boss@moh.gov.example")
    (arrived,) = house.arrived(MOH, message_id)
    assert arrived.recipients[0].startswith(b"<registry@moh.gov.example>")
    deliveries = house.deliveries(message_id)
    assert {to: d.intended for to, d in deliveries.items()} == {
        "registry@moh.gov.example": "desk@moh.gov.example boss@moh.gov.example"
    }
    single = send(house, "كتاب ROUTED", "desk@moh.gov.example")
    (arrived,) = house.arrived(MOH, single)
    assert b"ORCPT=rfc822;desk@moh.gov.example" in arrived.recipients[0]
    # A further half of the letter joins the recipients of the same mailbox.
    house.accept(octets, "clerk@moh.gov.example")
    assert house.deliveries(message_id)["registry@moh.gov.example"].intended.endswith("clerk@moh.gov.example")


def test_a_rule_adds_a_copy_and_says_so(house: Front) -> None:
    message_id = send(house, "كتاب COPIED")
    house.arrived(MOH, message_id)
    (copy,) = house.arrived(MOJ, message_id)
    assert copy.recipients[0].startswith(b"<security@moj.gov.example>")
    deliveries = house.deliveries(message_id)
    assert deliveries["security@moj.gov.example"].copy_by == "copy-to-security"
    assert deliveries["diwan@moh.gov.example"].copy_by is None
    submitted = house.evidence(message_id)[0]
    assert submitted.detail["copies"] == {"security@moj.gov.example": "copy-to-security"}
    house.receipts(message_id, "submitted")


def test_what_must_be_encrypted_is_not_sent_in_clear(house: Front) -> None:
    message_id = send(house, "كتاب ENCRYPTED-WAY")
    house.wait_standing(message_id, "diwan@moh.gov.example", "failed", 1, "failed")
    (failed,) = [r for r in house.receipts(message_id, "submitted", "failed") if b"5.7.10" in r.octets]
    assert header(failed.octets, "Wasl-Receipt") == "failed"
    nothing_at(house, "MOH", message_id)


def test_a_rate_is_kept(house: Front) -> None:
    answers = []
    for n in range(3):
        octets, _ = letter(subject=f"كتاب BULK {n}", author="busy@mof.gov.example")
        answers.append(house.send(octets, "diwan@moh.gov.example", sender="busy@mof.gov.example")[0])
    assert answers == [250, 250, 450]
    octets, _ = letter(subject="كتاب BULK", author="calm@mof.gov.example")
    house.accept(octets, "diwan@moh.gov.example", sender="calm@mof.gov.example")


def test_class_due_date_and_subject_go_out_with_the_letter(house: Front) -> None:
    message_id = send(house, "كتاب MARKED")
    row = house.letter(message_id)
    assert row.classification == "ordinary"
    assert abs(row.due_us - row.accepted_us - 48 * HOUR) < HOUR // 60
    (arrived,) = house.arrived(MOH, message_id)
    assert header(arrived.octets, "Wasl-Classification") == "ordinary"
    assert header(arrived.octets, "Wasl-Letter") == row.number
    due = parsedate_to_datetime(header(arrived.octets, "Wasl-Due"))
    assert due.timestamp() == row.due_us // 1_000_000
    subject = str(make_header(decode_header(header(arrived.octets, "Subject"))))
    subject = subject.replace("\u00a0", " ")  # between two encoded words a space would be lost
    assert subject == f"[{row.number}] [عادي] كتاب MARKED"


def test_urgency_of_the_letters_own_mark_goes_out_with_it(house: Front) -> None:
    message_id = send(house, "[عاجل] كتاب")
    assert house.letter(message_id).urgency == "urgent"
    (arrived,) = house.arrived(MOH, message_id)
    assert header(arrived.octets, "Wasl-Urgency") == "urgent"
    assert header(arrived.octets, "Wasl-Due")


def test_those_whom_a_rule_wants_told_get_a_mail(house: Front) -> None:
    message_id = send(house, "كتاب TOLD")
    number = house.letter(message_id).number

    def told() -> list[Received]:
        return [
            r
            for r in list(house.sinks["MOJ"].received)
            if header(r.octets, "Wasl-Receipt") == "notify" and number in bodies(r)
        ]

    wait_until(lambda: bool(told()), "the notice of the rule", hint=house.wasl.log)
    (notice,) = told()
    assert notice.sender.startswith(b"<>")
    assert notice.recipients[0].startswith(b"<security@moj.gov.example>")
    assert header(notice.octets, "Auto-Submitted") == "auto-generated"
    assert "tell-security" in bodies(notice) and "يُخبر الأمن" in bodies(notice)
    automatic, other = letter(subject="كتاب TOLD", more={"Auto-Submitted": "auto-generated"})
    house.accept(automatic, "diwan@moh.gov.example")
    house.arrived(MOH, other)
    house.quiet()
    assert (
        len([r for r in list(house.sinks["MOJ"].received) if header(r.octets, "Wasl-Receipt") == "notify"])
        == 1
    )


def test_receipts_go_to_whom_policy_names(house: Front) -> None:
    message_id = send(house, "كتاب RECEIPTS")
    (receipt,) = house.receipts(message_id, "submitted")
    assert [r.split(b">")[0] for r in receipt.recipients] == [
        b"<author@mof.gov.example",
        b"<clerk@mof.gov.example",
    ]


def test_a_letter_goes_by_another_hop(house: Front) -> None:
    message_id = send(house, "كتاب ANOTHER-WAY")
    (arrived,) = house.arrived(MOJ, message_id)
    assert arrived.recipients[0].startswith(b"<diwan@moh.gov.example>")
    nothing_at(house, "MOH", message_id)


def test_a_rule_on_trial_is_counted_and_changes_nothing(house: Front) -> None:
    message_id = send(house, "كتاب ON-TRIAL")
    house.arrived(MOH, message_id)
    hits = rule_hits(house, message_id)
    assert hits["would-refuse"] is True
    assert hits["inter-agency-letter"] is False
    (submission,) = house.submissions(house.letter(message_id).id)
    assert submission.decision["paths"][0]["would"] == ["would-refuse"]


def rule_hits(front: Front, message_id: str) -> dict[str, bool]:
    h = schema.rule_hit.c
    with front.engine.connect() as conn:
        rows = conn.execute(select(schema.rule_hit).where(h.letter_id == front.letter(message_id).id))
        return {row.rule: row.shadow for row in rows}


def test_of_several_recipients_the_refused_one_is_told_to_the_author(house: Front) -> None:
    octets, message_id = letter(subject="كتاب FORBIDDEN")
    house.accept(octets, "diwan@moh.gov.example", "diwan@moj.gov.example")
    house.arrived(MOH, message_id)
    receipts = house.receipts(message_id, "submitted", "refused")
    refusal = next(r for r in receipts if header(r.octets, "Wasl-Receipt") == "refused")
    assert b"Final-Recipient: rfc822; diwan@moj.gov.example" in refusal.octets
    assert b"Not to this agency" in refusal.octets and b"Status: 5.7.1" in refusal.octets
    assert house.standing(message_id)["diwan@moj.gov.example"] == ("refused", 0, "failed")
    nothing_at(house, "MOJ", message_id)


def test_what_answers_a_letter_is_classified_no_lower(house: Front) -> None:
    first = send(house, "[محدود] كتاب")
    number = house.letter(first).number
    octets, answer = letter(
        "author@mof.gov.example",
        author="diwan@moh.gov.example",
        subject=f"رد: [{number}] كتاب",
    )
    house.accept(octets, "author@mof.gov.example", sender="diwan@moh.gov.example", agency=MOH)
    assert house.letter(answer).classification == "restricted"
    (submission,) = house.submissions(house.letter(answer).id)
    assert submission.facts["answered"]["number"] == number


def test_a_mailbox_that_redirects_is_said_on_the_letter(house: Front) -> None:
    message_id = send(house, "كتاب يُحوَّل")
    (copy,) = house.arrived(MOH, message_id)
    back = return_address(copy)
    octets = copy.octets
    code, text = house.send(octets, "other@moj.gov.example", sender=back, agency=MOH)
    assert code == 250 and "/" not in text.split()[-1]
    house.arrived(MOJ, message_id)
    (told,) = [e for e in house.evidence(message_id) if e.event == "forwarded"]
    assert (told.detail["by"], told.detail["to"]) == ("MOH", ["MOJ"])
    house.verify()


def test_refusals_in_session_are_counted_without_addresses(house: Front) -> None:
    octets, _ = letter(to="x@nowhere.example")
    for _ in range(3):
        assert house.send(octets, "x@nowhere.example", agency=MOJ, sender="a@moj.gov.example")[0] == 550

    def counted() -> dict[str, int]:
        with house.engine.connect() as conn:
            rows = conn.execute(select(schema.refusal).where(schema.refusal.c.agency == "MOJ"))
            return {row.rule: row._mapping[schema.refusal.c.count] for row in rows}

    wait_until(lambda: counted().get("unknown-recipient-domain") == 3, "the counts", hint=house.wasl.log)


def test_held_letters_outlive_the_gateway(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decision taken while no gateway runs is carried out by the next one."""
    from tests.servers.wasl import serving

    with smtp_sink() as sink:
        with gateway_front(
            tmp_path_factory.mktemp("later"), authority, agencies=(MOF, MOH), hops={"MOH": hop(sink.port)}
        ) as front:
            (front.house.root / "policy" / "acts.yaml").write_text(
                RULES.replace(", recipient_agency: [MOJ]", "").replace("hop: MOJ", "hop: MOH"), "utf-8"
            )
            front.reload()
            wait_until(lambda: front.wasl.log().count("policy version") >= 1, "rules", hint=front.wasl.log)
            message_id = send(front, "كتاب ONE-EYE")
            house = front.house
            number = front.letter(message_id).number
        monkeypatch.setenv("SUDO_USER", "salma")
        (done,) = [json.loads(s) for s in house.run("hold", "release", number, "--json").splitlines()]
        assert done["state"] == "released"
        with serving(house):
            wait_until(
                lambda: any(r.message_id == message_id.encode() for r in list(sink.received)), "the letter"
            )
            time.sleep(0.1)
        assert len([r for r in list(sink.received) if r.message_id == message_id.encode()]) == 1
