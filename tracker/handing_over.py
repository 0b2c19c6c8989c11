"""Claims on a letter that was just accepted: its attempt is registered by the accepting transaction.

Whoever holds the acceptance can make the same claims from the ids that the transaction gave; so no
claim has to cross from the record room (:mod:`tracker.record_room`) to the relay. Nothing here fails.
"""

from __future__ import annotations

from tracker.acceptance import Acceptance, DeliveryDraft
from tracker.claims import Claim, Parcel
from tracker.model import id_text


def claim_of(a: Acceptance, draft: DeliveryDraft, parcel: Parcel, delivery_id: int, attempt_id: int) -> Claim:
    """The claim on one recipient of an acceptance that was handed over (``a.hand_to``)."""
    return Claim(
        delivery_id=delivery_id,
        attempt_id=attempt_id,
        kind=draft.kind,
        recipient=draft.recipient.address,
        agency=draft.agency,
        notify=draft.recipient.notify,
        orcpt=draft.recipient.orcpt,
        hop=draft.hop,
        attempts=1,
        expires_us=a.expires_us,
        warned_us=None,
        tag=draft.tag,
        subject_tag=draft.subject_tag,
        sign=draft.sign,
        require_tls=draft.require_tls,
        in_doubt=False,
        due_us=a.at_us,
        parcel=parcel,
    )


def parcel_of(a: Acceptance, letter_id: int, archive_key: str, number: str | None) -> Parcel:
    """What all claims on an acceptance share; the octets too while they are in memory."""
    e = a.envelope
    return Parcel(
        letter_id=letter_id,
        submission_id=a.submission_id,
        letter_kind=a.kind,
        number=number,
        agency=a.agency,
        author=a.author,
        message_id=a.message_id,
        classification=a.classification,
        urgency=a.urgency,
        letter_due_us=a.due_us,
        at_us=a.at_us,
        door=a.peer.door,
        peer=a.peer.peer,
        helo=a.peer.helo,
        tls=str(a.peer.tls) if a.peer.tls else None,
        account=a.peer.account,
        sender=e.sender,
        ret=e.ret,
        envid=e.envid,
        body=e.body,
        smtputf8=e.smtputf8,
        requiretls=e.requiretls,
        size=a.octets.size,
        sha256=a.octets.sha256,
        archive_key=archive_key,
        facts=a.facts,
        octets=a.octets if a.octets.memory is not None else None,
        wire_id=id_text(a.submission_id),
    )
