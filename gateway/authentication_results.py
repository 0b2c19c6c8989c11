"""What a check of a letter that came in found, and how Authentication-Results says it.

STANDARDS
    RFC 8601 §2.2 (the field), §2.7 (results of each method), RFC 8617 §10 (arc).

A value that is no plain word is quoted; what no field may hold is left out, so that the text can always
be written, whatever a hostile letter put into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~/@]+")  # what readers take without quotes
_PRINTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
_MOST = 120  # characters of one value

# The best of several results of one method comes first.
_ORDER = ("pass", "temperror", "fail", "softfail", "policy", "neutral", "permerror", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One result. ``properties`` are pairs such as ``("header.d", "mof.example")``."""

    method: str
    result: str
    reason: str = ""
    properties: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        result = self.result
        if self.method == "arc" and result == "temperror":
            result = "fail"  # a name server that does not answer is no excuse for a chain (RFC 8617 §5.2.1)
        out = f"{self.method}={result}"
        if self.reason:
            out += f' reason="{_PRINTABLE.sub("", self.reason)[:_MOST]}"'
        for name, value in self.properties:
            if not value or not value.isascii():
                continue
            clean = _PRINTABLE.sub("", value)[:_MOST]
            out += f" {name}={clean}" if _WORD.fullmatch(clean) else f' {name}="{clean}"'
        return out


def text(results: Sequence[Result], account: str | None) -> str:
    """What stands behind ``authserv-id;``: how the sender signed in, then what was found."""
    said = []
    if account:
        said.append(str(Result(method="auth", result="pass", properties=(("smtp.auth", account),))))
    said += [str(one) for one in results]
    return "; ".join(said) or "none"


def summary(results: Sequence[Result]) -> tuple[tuple[str, str], ...]:
    """One result for each method, the best of several: what rules ask for."""
    best: dict[str, str] = {}
    for one in results:
        known = best.get(one.method)
        if known is None or _rank(one.result) < _rank(known):
            best[one.method] = one.result
    return tuple(best.items())


def _rank(result: str) -> int:
    return _ORDER.index(result) if result in _ORDER else len(_ORDER)
