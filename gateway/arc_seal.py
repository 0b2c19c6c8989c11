"""The ARC set that this gateway puts on a letter it alters (RFC 8617 §5.1).

The set says in our name what came in (ARC-Authentication-Results), signs the letter as it goes out
(ARC-Message-Signature) and binds both to the chain before (ARC-Seal). It is made last, above the DKIM
signatures, by the gateway's own RSA key, so that a receiver who finds the author's signature
broken by our tags can see that it was whole when the letter came to us.

A chain that has failed is marked so, once (§5.1.2), and one that already says so is left alone. Raises
:class:`gateway.sign.NoFromError` for a letter without From.
"""

from __future__ import annotations

import base64
import hashlib

from gateway.arc_chain import MESSAGE, MOST_SETS, NAMES, RESULTS, SEAL, Sets, collect
from gateway.dkim_form import CanonicalHeader, FormError, relaxed_line, tag_list, without_white
from gateway.sign import SIGNED, NoFromError, SigningKey
from tracker import header_writer
from tracker.header import scan

_FOLD = b"\r\n\t"


def seal_fields(
    head: bytes, body: bytes, key: SigningKey, *, authserv_id: str, results: str, chain: str, at_us: int
) -> bytes:
    """The three fields of a set, to be put on top of ``head``, the header of the sent form.

    ``body`` is :func:`gateway.sign.body_hash`, ``results`` what stands behind ``authserv-id;``, ``chain`` the
    state that came in: none, pass or fail. Empty when no set may be added.
    """
    header = CanonicalHeader(scan(head))
    sets = collect(header)
    number = _next(header, sets, chain)
    if number is None:
        return b""
    made = at_us // 1_000_000
    seen = header_writer.structured("ARC-Authentication-Results", f"i={number}; {authserv_id}; {results}")
    message = _message_signature(header, body, key, number, made)
    covered = hashlib.sha256()
    if chain == "pass":
        for i in range(1, number):
            for name in NAMES:
                covered.update(header.relaxed(sets.by_instance[i][name]) + b"\r\n")
    for name, line in ((RESULTS, seen), (MESSAGE, message)):
        covered.update(relaxed_line(name, line[line.index(b":") + 1 :]) + b"\r\n")
    seal = b"ARC-Seal: i=%d; a=%b; cv=%b;\r\n\td=%b; s=%b;\r\n\tt=%d;\r\n\tb=" % (
        number,
        key.algorithm.encode(),
        chain.encode(),
        key.domain.encode(),
        key.selector.encode(),
        made,
    )
    covered.update(relaxed_line(SEAL, seal[seal.index(b":") + 1 :]))
    return _ended(seal, key.sign(covered.digest())) + message + seen


def _next(header: CanonicalHeader, sets: Sets, chain: str) -> int | None:
    """The instance of a new set; None when there is no room or nothing to add to."""
    number = sets.highest + 1
    if number > MOST_SETS:
        return None
    if chain == "none":
        return None if sets.by_instance or sets.fault else 1
    if chain == "pass":
        return None if sets.fault or number == 1 else number
    newest = sets.by_instance.get(sets.highest, {}).get(SEAL)
    if newest is not None:
        try:
            if without_white(tag_list(header.value(newest)).get("cv", b"")).lower() == b"fail":
                return None  # §5.1 step 2
        except FormError:
            pass
    return number


def _message_signature(
    header: CanonicalHeader, body: bytes, key: SigningKey, number: int, made: int
) -> bytes:
    names: list[bytes] = []
    for name in SIGNED:
        names += [name] * (len(header.fields(name)) + 1)
    names += [b"dkim-signature"] * len(header.fields(b"dkim-signature"))
    if not header.fields(b"from"):
        raise NoFromError("no From field")
    field = (
        b"ARC-Message-Signature: i=%d; a=%b; c=relaxed/relaxed;\r\n\td=%b; s=%b;\r\n"
        b"\tt=%d;\r\n\th=%b;\r\n\tbh=%b;\r\n\tb="
        % (
            number,
            key.algorithm.encode(),
            key.domain.encode(),
            key.selector.encode(),
            made,
            _folded(names),
            base64.b64encode(body),
        )
    )
    digest = header.signed(names, relaxed=True)
    digest.update(relaxed_line(MESSAGE, field[field.index(b":") + 1 :]))
    return _ended(field, key.sign(digest.digest()))


def _folded(names: list[bytes]) -> bytes:
    lines: list[bytes] = []
    line = b""
    for name in names:
        if len(line) + len(name) > 70:
            lines.append(line)
            line = b""
        line += name + b":"
    lines.append(line)
    return _FOLD.join(lines).rstrip(b":")


def _ended(field: bytes, signature: bytes) -> bytes:
    value = base64.b64encode(signature)
    return field + _FOLD.join([value[i : i + 72] for i in range(0, len(value), 72)]) + b"\r\n"
