"""Who the From field says wrote a message, and whether somebody we trust bears that out.

The field is read as RFC 5322 §3.6.2 has it; what is missing, doubled or contradictory is a kind of
its own, never a guess. Authentication-Results count only under the names that the agency's own
server uses (RFC 8601 §5), and only for the very domain of the author. Nothing here raises.
"""

from __future__ import annotations

import re
from enum import StrEnum

from policies.agency import Agency, Forwards
from policies.directory import Directory
from tracker.header import Headers
from tracker.model import Address


class AuthorKind(StrEnum):
    """The From field, seen from the agency that hands the letter in."""

    OWN = "own"
    AGENCY = "agency"
    OUTSIDE = "outside"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"  # two fields, no readable address, or authors of several bodies


class Author:
    """The first author; ``kind`` is None when nothing is odd and the agency alone tells."""

    __slots__ = ("address", "agency", "kind", "name", "text")

    def __init__(self, headers: Headers, directory: Directory) -> None:
        boxes = headers.addresses("from")
        self.name = boxes[0].name[:200] if boxes else ""
        self.text = boxes[0].spec[:254] if boxes else ""
        self.address = boxes[0].address if boxes else None
        self.agency: Agency | None = None
        self.kind: AuthorKind | None = None
        if not boxes:
            self.kind = AuthorKind.MISSING if not headers.count("from") else AuthorKind.AMBIGUOUS
            return
        if self.address is None or headers.count("from") > 1:
            self.kind = AuthorKind.AMBIGUOUS
        if self.address is not None:
            self.agency = directory.by_domain(self.address.host)
        for box in boxes[1:]:
            other = box.address
            if other is None or directory.by_domain(other.host) is not self.agency:
                self.kind = AuthorKind.AMBIGUOUS


_RESULT = re.compile(r"(?:^|;)\s*(spf|dkim|dmarc)\s*=\s*pass\b([^;]*)", re.IGNORECASE)
_PROPERTY = re.compile(
    r"\b(?:header\.from|smtp\.mailfrom|header\.d)\s*=\s*\"?(?:[^@\s;\"]*@)?([A-Za-z0-9.-]+)"
)
_COMMENT = re.compile(r"\([^()]{0,500}\)")


def believed(headers: Headers, agency: Agency) -> tuple[tuple[str, str], ...]:
    """``(method, domain)`` of what passed, by Authentication-Results of the agency's own server."""
    if not agency.authserv_ids or "authentication-results" not in headers:
        return ()
    out: list[tuple[str, str]] = []
    for raw in headers.all("authentication-results")[:20]:
        text = _COMMENT.sub(" ", raw[:8192].decode("latin-1"))
        server, _, rest = text.partition(";")
        if server.strip().split(" ")[0].lower() not in agency.authserv_ids:
            continue
        for match in _RESULT.finditer(";" + rest):
            domain = _PROPERTY.search(match[2])
            if domain is not None:
                out.append((match[1].lower(), domain[1].lower().rstrip(".")))
    return tuple(out[:20])


def vouched(
    agency: Agency | None, results: tuple[tuple[str, str], ...], sender: Address, author: Author | None
) -> bool:
    if agency is None or agency.forwards is Forwards.NONE:
        return False
    if agency.forwards is Forwards.ALL:
        return True
    # A result counts when it is about the author's own domain, or by SPF about the envelope's.
    domain = author.address.host if author is not None and author.address is not None else ""
    return any(
        (about == domain and method != "spf") or (method == "spf" and about == sender.host == domain)
        for method, about in results
    )
