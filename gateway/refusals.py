"""What agencies were refused in session, as numbers: by agency, day and rule.

A refusal at RCPT leaves no letter and no address behind (most are slips of the pen, some are private mail),
yet whoever looks after an agency must see that its mail is refused, why and how often. Counting costs a
dictionary's lookup; what was counted is written every few seconds and at the end. A kill loses the last
seconds' counts, which no promise hangs on. At most ``MOST`` kinds are told apart between two writings.
What an author is told bears the address of a page with the Arabic text (:func:`with_page`).
"""

from __future__ import annotations

from dataclasses import replace

from gateway.crossing import Crossing
from tracker import refusals
from tracker.model import now_us
from tracker.reply import Reply

MOST = 500  # agency and rule
REST = "other"  # the rule that stands for all beyond that


def with_page(reply: Reply, rule: str, base_url: str) -> Reply:
    """A refusal for good that names the page with its Arabic text, which no ASCII reply can hold."""
    if not base_url or not rule or reply.code < 500:
        return reply
    return replace(reply, text=f"{reply.text} {base_url.rstrip('/')}/refused/{rule}")


class Refusals:
    """The counts of one process."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int, str], refusals.Count] = {}

    def count(self, agency: str, rule: str, reply: str) -> None:
        """One more refusal."""
        at = now_us()
        key = (agency, at // refusals.DAY_US, rule)
        known = self._counts.get(key)
        if known is None:
            if len(self._counts) >= MOST:
                key, reply = (agency if len(self._counts) < 2 * MOST else "", key[1], REST), ""
                known = self._counts.get(key)
            if known is None:
                known = self._counts[key] = refusals.Count(reply=reply[:200])
        known.count += 1
        known.last_us = at

    async def write(self, crossing: Crossing) -> None:
        """Add what was counted to the record; raises what the record raises, and then nothing is lost."""
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        try:
            await crossing.write(lambda conn: refusals.add(conn, counts))
        except Exception:
            for key, known in counts.items():
                other = self._counts.setdefault(key, refusals.Count(reply=known.reply))
                other.count += known.count
                other.last_us = max(other.last_us, known.last_us)
            raise
