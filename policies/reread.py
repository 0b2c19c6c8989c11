"""Facts that were recorded before they could hold everything, completed from the archived octets.

What an older version of the facts lacks (marks, Reply-By, the content of attachments) and header fields that
nobody asked for then are read again from the letter itself; what was found out on the way in (who the
peer was, results of checks, which agency an address belonged to) stays as it was recorded. Never raises on
any octets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from policies.author import AuthorKind
from policies.content_letter import read
from policies.facts import FACTS_VERSION, Facts
from policies.field_facts import asked, marks, reply_by_us
from tracker.header import Buffer, scan
from tracker.recorded import Recorded

Open = Callable[[str], Buffer]  # octets by archive key; raises OSError


def reread(
    facts: Facts, octets: Buffer, needs: Iterable[str], recorded_version: int = FACTS_VERSION
) -> Facts:
    """The facts with the fields that ``needs`` names, and with what their version lacks."""
    headers = scan(octets)
    fields = asked(headers, needs)
    if recorded_version >= FACTS_VERSION:
        return replace(facts, fields=fields)
    content = read(octets)
    said, stripped = marks(headers, facts.subject, facts.author_kind is AuthorKind.OWN)
    return replace(
        facts,
        fields=fields,
        marks=said,
        stripped=stripped,
        reply_by_us=reply_by_us(headers),
        attachments=content.attachments,
        undecidable=content.undecidable,
    )


class Rereader:
    """Reads the octets of recorded letters when their facts lack something."""

    def __init__(self, key_of: Callable[[int], str | None], open_: Open) -> None:
        """``key_of`` tells the archive key of a submission."""
        self._key_of = key_of
        self._open = open_

    def __call__(self, row: Recorded, facts: Facts, needs: Iterable[str]) -> Facts | None:
        """The whole facts; None when the octets are gone."""
        key = self._key_of(row.submission_id)
        if key is None:
            return None
        try:
            octets = self._open(key)
        except OSError:
            return None
        return reread(facts, octets, needs, row.facts_version)
