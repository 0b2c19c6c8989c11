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
