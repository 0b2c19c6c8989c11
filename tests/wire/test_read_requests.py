"""Who is asked for a read receipt: rules go before the recipient's agency, that before the settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.servers.certificates import Authority
from tests.servers.place import wait_until
from tests.wire.gateway_front import MOF, MOH, MOJ, Agency, Front, gateway_front
from tests.wire.wire_letters import header, letter, return_address

pytestmark = pytest.mark.servers

RULES = """\
rules:
  - id: never-ask
    priority: 101
    description: {ar: لا يُطلب, en: Never ask}
    match: {subject_contains: [QUIET]}
    ask_read: never
  - id: always-ask
    priority: 102
    description: {ar: يُطلب دائماً, en: Always ask}
    match: {subject_contains: [PLEASE]}
    ask_read: always
  - id: one-of-many
    priority: 103
    description: {ar: واحد لا يُسأل, en: One of many is not asked}
    match: {recipient_mailbox: p0@moh.gov.example}
    ask_read: never
  - id: copied
    priority: 104
    description: {ar: نسخة, en: A copy}
    match: {subject_contains: [COPIED]}
    copy: [security@moj.gov.example]
"""
ALWAYS = Agency(code="ALW", domain="always.gov.example", more="ask_read: always\n")
NEVER = Agency(code="NVR", domain="never.gov.example", more="ask_read: never\n")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Front]:
    """A gateway that asks where the author does, unless agency or rule say otherwise."""
    root = tmp_path_factory.mktemp("asking")
    agencies = (MOF, MOH, replace(MOJ, more="ask_read: author\n"), ALWAYS, NEVER)
    sections = {"receipts": {"ask_read": "author"}}
    with gateway_front(root, authority, agencies=agencies, sections=sections) as front:
        (front.house.root / "policy" / "asking.yaml").write_text(RULES, "utf-8")
        front.reload()
        wait_until(
            lambda: "policy version" in front.wasl.log() or "fault" in front.wasl.log(),
            "the rules in force",
            hint=front.wasl.log,
        )
        assert "fault" not in front.wasl.log(), front.wasl.log()
        yield front


@pytest.mark.parametrize(
    ("agency", "subject", "author_asks", "asked"),
    [
        (MOH, "كتاب", False, False),
        (MOH, "كتاب", True, True),
        (MOJ, "كتاب", True, True),
        (MOH, "QUIET", True, False),
        (MOH, "PLEASE", False, True),
        (ALWAYS, "كتاب", False, True),
        (ALWAYS, "QUIET", False, False),
        (NEVER, "كتاب", True, False),
        (NEVER, "PLEASE", False, True),
    ],
)
def test_who_is_asked(asking: Front, agency: Agency, subject: str, author_asks: bool, asked: bool) -> None:
    to = f"diwan@{agency.domain}"
    more = {"Disposition-Notification-To": "author@mof.gov.example"} if author_asks else {}
    octets, message_id = letter(to, subject=subject, more=more)
    asking.accept(octets, to)
    (copy,) = asking.arrived(agency, message_id)
    found = header(copy.octets, "Disposition-Notification-To")
    assert found == (return_address(copy) if asked else "")


def test_recipients_who_are_not_asked_travel_apart(asking: Front) -> None:
    people = [f"p{i}@moh.gov.example" for i in range(7)]
    octets, message_id = letter(subject="PLEASE")
    asking.accept(octets, *people)
    one, many = sorted(asking.arrived(MOH, message_id, 2), key=lambda copy: len(copy.recipients))
    assert len(one.recipients) == 1 and header(one.octets, "Disposition-Notification-To") == ""
    assert len(many.recipients) == 6
    assert header(many.octets, "Disposition-Notification-To") == return_address(many)


def test_a_copy_by_rule_is_not_asked(asking: Front) -> None:
    octets, message_id = letter(
        subject="COPIED PLEASE", more={"Disposition-Notification-To": "author@mof.gov.example"}
    )
    asking.accept(octets, "diwan@moh.gov.example")
    (copy,) = asking.arrived(MOJ, message_id)
    assert header(copy.octets, "Disposition-Notification-To") == ""
    (asked,) = asking.arrived(MOH, message_id)
    assert header(asked.octets, "Disposition-Notification-To") == return_address(asked)
