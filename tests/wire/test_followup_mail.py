"""Whom the mail of follow-up goes to, how often, and what it tells whom; on both databases."""

from __future__ import annotations

from tests.wire.test_followup import Desk, desk, policy, text

__all__ = ["desk"]  # the fixture


def test_a_letter_to_several_of_an_agency_is_one_reminder(desk: Desk) -> None:
    """Its registry owes one answer, whomever the letter names there; each recipient has the evidence."""
    two = desk.post("diwan@moh.gov.example", "minister@moh.gov.example", "diwan@pm.gov.example")
    desk.post("diwan@moh.gov.example", "hr@moh.gov.example", due="2026-05-28 15:30", subject="الآخر")
    assert desk.look("2026-05-19 08:05") == 2
    assert desk.sent() == [("diwan@moh.gov.example", "reminder"), ("diwan@pm.gov.example", "reminder")]
    assert desk.events(two) == ["reminded"] * 3
    (body,) = [text(m) for to, m in desk.mail() if to == "diwan@moh.gov.example"]
    assert body.count("الآخر") == 2, "once in each language, and the letter itself not among the others"
    assert "minister@" not in body
    desk.policy = policy("reminders: []\nexpiry: never\n")
    assert desk.look("2026-05-24 08:05") == 2
    digest = next(m for to, m in desk.mail() if m["Wasl-Receipt"] == "digest" and "moh" in to)
    assert "كتاب واحد متأخر" in digest["Subject"]
    assert "Late (1)" in text(digest) and "registration (2)" in text(digest), "letters, not recipients"


def test_an_agencys_own_compliance_staff_read_of_both_ends(desk: Desk) -> None:
    """That nothing is late at the agency does not say that nothing is late for it."""
    desk.post("diwan@moh.gov.example", subject="المتأخر عند الصحة")
    desk.policy = policy(
        "reminders: []\nexpiry: never\ndigest: {registry: false}\n"
        "agencies: {MOF: {digest: {registry: false, to: follow@mof.gov.example}}}\n"
    )
    assert desk.look("2026-05-24 08:05") == 1
    ((to, digest),) = desk.mail()
    said = text(digest)
    assert to == "follow@mof.gov.example" and "كتاب واحد متأخر" in digest["Subject"]
    assert "على جهتكم: لا شيء متأخر" in said and "Your agency owes: nothing is late" in said
    assert "Your letters that others are late with (1)" in said and said.count("المتأخر عند الصحة") == 2
    assert "What other agencies owe to yours" in said and "–" not in said, "a nought is not said in words"
    html = digest.get_body(("html",))
    assert html is not None and "@media (max-width:560px)" in html.get_content(), "stacked on a phone"
