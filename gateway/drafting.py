"""What a decision becomes: one acceptance for the record, with a draft for each recipient.

Everything that a verdict says is carried out or written down here: the state of each recipient's copy and
the terms of a hold, another mailbox or next hop, copies to others, TLS, tags and subject, which receipts
are due and to whom, the letter's classification, urgency and due date, who is told that a rule applied, and
the rules that are counted. Several recipients whom policy routes to one mailbox become one delivery that
names them all. An agency in shadow mode is changed nothing: no other mailbox, no copies (DESIGN §11).

Pure but for the ids it takes and the clock; nothing here fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from gateway import metrics
from gateway.outgoing import OUTWARD, UNASKED, orcpt_of
from gateway.read_wish import NO_WISH, ReadWish
from gateway.relay import Relay
from gateway.retry import RetrySchedule
from policies.agency import Agency, Mode
from policies.chain import Policy
from policies.directory import Directory
from policies.facts import FACTS_VERSION, Automatic, Facts
from policies.load import DEFAULT
from policies.marks import Marks, Scale
from policies.verdict import Action, Decision, HoldTerms, Kind, Verdict
from tracker.acceptance import Acceptance, DeliveryDraft, HoldDraft
from tracker.archive import Octets
from tracker.holds import DEFAULT_APPROVERS
from tracker.model import (
    Address,
    Connection,
    DeliveryKind,
    Envelope,
    IdSource,
    LetterKind,
    Recipient,
    id_text,
    now_us,
)
from tracker.receipt_due import PLAIN_MAIL, ReceiptSettings, asks, changed, named
from tracker.search import fold
from tracker.states import Event, State

_log = logging.getLogger("wasl.intake")

_TOGETHER = 200  # recipients: a letter to more is left to the relay's own claiming


@dataclass(frozen=True, slots=True)
class Read:
    """What was read in a letter beside its facts."""

    shown: frozenset[str]  # keys of the addresses in To and Cc
    digest: bytes | None
    parts: tuple[bytes, ...]
    authentication: str | None = None  # what Authentication-Results is to say, if anything
    wish: ReadWish = NO_WISH  # the author's own for a read receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSettings:
    """What of the settings concerns drafts."""

    domain: str
    number_shape: str
    tag_subject: bool
    receipts: ReceiptSettings
    ask_read: str = "always"


class Drafting:
    """Makes acceptances. One per process."""

    def __init__(
        self,
        ids: IdSource,
        settings: DraftSettings,
        directory: Callable[[], Directory],
        schedule: RetrySchedule,
        relay: Relay | None,
    ) -> None:
        self._ids = ids
        self._settings = settings
        self._directory = directory
        self._schedule = schedule
        self._relay = relay
        self._counted: tuple[Policy, frozenset[str]] | None = None

    def acceptance(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        facts: Facts,
        read: Read,
        decision: Decision,
        policy: Policy,
        verdicts: Sequence[Verdict],
    ) -> Acceptance:
        """The acceptance of what is no report to ourselves (``verdicts``)."""
        at = now_us()
        kind = _kind(verdicts)
        agency = self._directory().agency(facts.submitter) if facts.submitter else None
        letters = kind is not LetterKind.PASS
        drafts = self._drafts(verdicts, facts, read, agency, kind, policy)
        owner = self._owner(drafts)
        submission_id = self._ids.next()
        message_id = facts.message_id
        if message_id is None and kind is LetterKind.LETTER:
            message_id = f"<{id_text(submission_id)}@{self._settings.domain}>"  # RFC 6409 §8.3
        hits, would = self._hits(policy, verdicts) if letters else ((), ())
        marks = policy.marks
        return Acceptance(
            submission_id=submission_id,
            kind=kind,
            peer=conn,
            envelope=envelope,
            octets=octets,
            at_us=at,
            expires_us=self._schedule.expires_us(at),
            deliveries=drafts,
            agency=facts.submitter,
            author=facts.author if letters else "",
            author_name=facts.author_name if letters else "",
            message_id=message_id,
            references=facts.references,
            subject_number=facts.subject_number,
            text_numbers=facts.text_numbers,
            answer_effect=_answer_effect(verdicts, facts, agency),
            subject=facts.subject if letters else "",
            subject_fold=fold(facts.subject) if letters else "",
            digest=read.digest,
            parts=read.parts if letters else (),
            classification=_highest([v.classification for v in verdicts], marks.classifications),
            urgency=_highest([v.urgency for v in verdicts], marks.urgencies),
            due_us=min([v.due_us for v in verdicts if v.due_us is not None], default=None),
            number_shape=self._settings.number_shape if kind is LetterKind.LETTER else None,
            facts=self._stored(facts, read, verdicts, letters, marks),
            facts_version=FACTS_VERSION,
            decision=decision.to_json() if letters else {},
            policy_version=policy.version,
            hits=hits,
            would=would,
            notify=_notified(verdicts, facts, kind),
            hand_to=owner,
            lease=self._relay.lease() if self._relay is not None else None,
        )

    def refusal(
        self,
        conn: Connection,
        envelope: Envelope,
        octets: Octets,
        facts: Facts,
        read: Read,
        decision: Decision,
        policy: Policy,
        beside: Sequence[Verdict] = (),
    ) -> Acceptance:
        """The record of a letter that was refused whole; the client's own server tells the author.

        ``beside``: those who were refused while a return address took the mail. It is answered with 250, so
        that we tell the author.
        """
        verdicts = beside or decision.verdicts
        a = self.acceptance(conn, envelope, octets, facts, read, decision, policy, verdicts)
        hits, would = self._hits(policy, verdicts)
        return replace(
            a,
            kind=LetterKind.REFUSED,
            deliveries=a.deliveries if beside else tuple([replace(d, asks=()) for d in a.deliveries]),
            number_shape=None,
            hand_to=None,
            author=facts.author,
            author_name=facts.author_name,
            subject=facts.subject,
            subject_fold=fold(facts.subject),
            facts=facts.to_json(),
            decision=decision.to_json(),
            hits=hits,
            would=would,
            notify=_notified(verdicts, facts, LetterKind.REFUSED),
        )

    def _owner(self, drafts: Sequence[DeliveryDraft]) -> str | None:
        """Our relay, if it may take all of these at once."""
        relay = self._relay
        if relay is None or not relay.has_room or len(drafts) > _TOGETHER:
            return None
        # A next hop that rests or is full: the record keeps its letters until it can.
        return relay.owner if all(relay.may_take(d.hop) for d in drafts) else None

    def _drafts(
        self,
        verdicts: Sequence[Verdict],
        facts: Facts,
        read: Read,
        agency: Agency | None,
        kind: LetterKind,
        policy: Policy,
    ) -> tuple[DeliveryDraft, ...]:
        if len(verdicts) == 1 and not verdicts[0].copies:
            return (self._draft(verdicts[0], facts, read, agency, kind),)
        made: dict[tuple[str, State, str], DeliveryDraft] = {}
        for v in verdicts:
            draft = self._draft(v, facts, read, agency, kind)
            rule = draft.hold.rule if draft.hold is not None else ""
            key = (draft.recipient.address.key, draft.state, rule)
            known = made.get(key)
            made[key] = draft if known is None else _together(known, draft)
        out = list(made.values())
        there = {d.recipient.address.key for d in out}
        for v in verdicts:
            for address in v.copies:
                if v.refused or v.kind is Kind.SHADOW or address.key in there:
                    continue
                copy = self._copy(v, address, facts, _copying(policy, v, address))
                if copy is not None:
                    there.add(address.key)
                    out.append(copy)
        return tuple(out)

    def _draft(
        self, v: Verdict, facts: Facts, read: Read, agency: Agency | None, kind: LetterKind
    ) -> DeliveryDraft:
        target, intended, hop, receiver = v.recipient, None, v.hop, v.agency
        if v.redirect is not None:
            target = replace(target, address=v.redirect)
        elif v.mailbox is not None and v.mailbox.key != target.address.key and self._may_route(v):
            intended = str(target.address)
            # RFC 3461 §4.2: what comes back tells whom the author named.
            target = replace(target, address=v.mailbox, orcpt=target.orcpt or orcpt_of(target.address))
            home = self._directory().by_domain(v.mailbox.host)
            if home is not None and home.code != receiver:
                hop = home.code if hop == receiver else hop
                receiver = home.code
        state = State.QUEUED
        if v.refused:
            state = State.REFUSED
        elif v.action is Action.HOLD:
            state = State.HELD
        own = DeliveryKind.PASS if v.kind is Kind.REPORT else v.delivery_kind
        if v.refused and kind in (LetterKind.LETTER, LetterKind.SHADOW):
            own = DeliveryKind(kind.value)  # stands on the letter's page beside those who were not refused
        return DeliveryDraft(
            recipient=target,
            kind=own,
            agency=receiver,
            hop=hop,
            state=state,
            bcc=bool(read.shown) and v.recipient.address.key not in read.shown,
            asks=self._asks(v, facts, agency, read.wish),
            tag=v.tag,
            subject_tag=v.tag and (self._settings.tag_subject if v.subject_tag is None else v.subject_tag),
            sign=v.sign,
            require_tls=v.require_tls or v.requiretls,
            reason=_reason(v) if state is not State.QUEUED else {},
            hold=_hold(v) if state is State.HELD else None,
            intended=intended,
            receipts_to=_receipts_to(v, facts, agency) if v.receipts_to is not None else None,
            digest=v.digest,
            due_us=None if facts.automatic else v.due_us,  # no person waits for an answer
        )

    def _may_route(self, v: Verdict) -> bool:
        """Neither side is in shadow mode."""
        if v.kind is Kind.SHADOW:
            return False
        receiver = self._directory().agency(v.agency) if v.agency else None
        return receiver is None or receiver.mode is not Mode.SHADOW

    def _copy(self, v: Verdict, address: Address, facts: Facts, rule: str) -> DeliveryDraft | None:
        """A copy that a rule adds: said to be one, shown to the sender's side and to its own, no receipts."""
        home = self._directory().by_domain(address.host)
        hop = home.code if home is not None else f"{facts.submitter}:outbound" if facts.outbound else ""
        if not hop:
            _log.error("the rule %s wants a copy for %s, to whom no next hop leads", rule, address)
            return None
        active = home is not None and home.mode is Mode.ACTIVE and v.kind is Kind.LETTER
        held = v.action is Action.HOLD
        return DeliveryDraft(
            recipient=Recipient(address=address, notify="NEVER"),
            kind=v.delivery_kind,
            agency=home.code if home is not None else None,
            hop=hop,
            state=State.HELD if held else State.QUEUED,
            bcc=True,
            tag=active,
            subject_tag=active and (self._settings.tag_subject if v.subject_tag is None else v.subject_tag),
            sign=active and v.sign,
            require_tls=v.require_tls or v.requiretls,
            reason=_reason(v) if held else {},
            hold=_hold(v) if held else None,
            copy_by=rule,
        )

    def _asks(
        self, v: Verdict, facts: Facts, agency: Agency | None, wish: ReadWish = NO_WISH
    ) -> tuple[str, ...]:
        """The events that earn the author a receipt: policy first, then the agency, then the settings.

        An agency in shadow mode is told no more than any mail server would tell it. A read receipt that the
        author asks for is due whatever agency, settings and NOTIFY say, which speaks of delivery only.
        """
        followed = v.kind not in (Kind.PASS, Kind.SHADOW)
        told = _asked(
            v.recipient.notify,
            self._settings.receipts if followed else PLAIN_MAIL,
            v.receipts if followed else None,
            agency.receipts if followed and agency is not None else (),
            bool(facts.automatic - _LISTS),
            bool(facts.automatic & _LISTS),
            not facts.sender,
        )
        wished = wish.to and followed and v.receipts is None and facts.sender and not facts.automatic
        return (*told, Event.READ.value) if wished and Event.READ.value not in told else told

    def _asked_to_read(self, v: Verdict, facts: Facts, read: Read) -> bool:
        """Whether the copy asks for a read receipt: by rule, else by the recipient's agency, else settings.

        Automatic mail and mail without a return address ask for nothing unless a rule says so.
        """
        receiver = self._directory().agency(v.agency) if v.agency else None
        word = v.ask_read or (receiver.ask_read if receiver is not None else None) or self._settings.ask_read
        if v.ask_read is None and facts.automatic:
            return False
        return word == "always" or (word == "author" and read.wish.asked)

    def _hits(self, policy: Policy, verdicts: Sequence[Verdict]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The rules that are counted beside a letter: each of a policy folder, of the built-in ones those
        that hold or refuse; and those in shadow mode that would have applied."""
        if self._counted is None or self._counted[0] is not policy:
            self._counted = (
                policy,
                frozenset(
                    rule.id
                    for rule in policy.rules
                    if rule.effect.action in (Action.HOLD, Action.REJECT) or not _built_in(rule.file)
                ),
            )
        counted = self._counted[1]
        hits = [hit for v in verdicts for hit in v.hits if hit in counted]
        would = [rule for v in verdicts for rule in v.would]
        for rule in would:
            metrics.WOULD.labels(rule).inc()
        return tuple(dict.fromkeys(hits)), tuple(dict.fromkeys(would))

    def _stored(
        self, facts: Facts, read: Read, verdicts: Sequence[Verdict], letters: bool, marks: Marks
    ) -> dict[str, Any]:
        """What is kept of the facts: of mail that is no letter next to nothing."""
        stored: dict[str, Any] = facts.to_json() if letters else {"v": FACTS_VERSION, "hops": facts.hops}
        if facts.results:
            stored["results"] = facts.results
        if read.authentication is not None:
            stored["authentication_results"] = read.authentication
        if letters and read.wish.asked:
            stored["read_wish"] = read.wish.to_json()
        outward: dict[str, dict[str, Any]] = {}
        for v in verdicts:
            wanted: dict[str, Any] = {"requiretls": True} if v.requiretls else {}
            if v.subject_shape is not None:
                wanted["subject"] = _shape(v.subject_shape, v, facts, marks)
            quiet = wanted | {UNASKED: True}
            asked = v.tag and self._asked_to_read(v, facts, read)
            if wanted or (v.tag and not asked):
                address = v.redirect or v.mailbox or v.recipient.address
                outward[address.key] = wanted if asked else quiet
            for copy in v.copies:
                outward[copy.key] = quiet
        if outward:
            stored[OUTWARD] = outward
        return stored


_LISTS = frozenset({Automatic.LIST, Automatic.BULK})


@lru_cache(maxsize=512)
def _asked(
    notify: str | None,
    settings: ReceiptSettings,
    by_rule: tuple[str, ...] | None,
    by_agency: tuple[tuple[str, bool], ...],
    automatic: bool,
    mailing_list: bool,
    null_sender: bool,
) -> tuple[str, ...]:
    events = named(by_rule) if by_rule is not None else changed(settings.events, by_agency)
    settings = replace(settings, events=events)
    told = {
        hop_reports: asks(
            notify,
            settings,
            automatic=automatic,
            mailing_list=mailing_list,
            null_sender=null_sender,
            hop_reports=hop_reports,
        )
        for hop_reports in (False, True)
    }
    # Whether the next hop will report success is known when it has answered EHLO.
    return tuple([e.value if e in told[True] else f"{e.value}?" for e in told[False]])


def _answer_effect(verdicts: Sequence[Verdict], facts: Facts, agency: Agency | None) -> str:
    """What this letter does to one that it answers: a rule says it, else the agency that answers."""
    if facts.automatic or agency is None:
        return "nothing"
    said = [v.answers for v in verdicts if v.answers is not None and not v.refused]
    return said[-1] if said else agency.answers


def _shape(shape: str, v: Verdict, facts: Facts, marks: Marks) -> str:
    """A subject tag's shape with all filled in but the number, which the record gives."""
    for name, word, scale in (
        ("{classification}", v.classification, marks.classifications),
        ("{urgency}", v.urgency, marks.urgencies),
    ):
        degree = next((d.ar for d in scale.degrees if d.id == word), word)
        shape = shape.replace(name, degree)
    return shape.replace("{agency}", facts.submitter or "")


def _built_in(file: str) -> bool:
    return file.startswith((str(DEFAULT), f"{DEFAULT.name}/"))


def _kind(verdicts: Sequence[Verdict]) -> LetterKind:
    kinds = {v.kind for v in verdicts if not v.refused}
    if Kind.LETTER in kinds:
        return LetterKind.LETTER
    return LetterKind.SHADOW if Kind.SHADOW in kinds else LetterKind.PASS


def _copying(policy: Policy, v: Verdict, address: Address) -> str:
    """The rule that wants this copy."""
    for hit in v.hits:
        rule = policy.rule(hit)
        if rule is not None and any(address.key == one.key for one in rule.effect.copies):
            return hit
    return v.rule


def _reason(v: Verdict) -> dict[str, Any]:
    """Why somebody gets nothing, or nothing yet: kept as evidence."""
    said = str(v.reply) if v.reply is not None and v.refused else ""
    reason: dict[str, Any] = {"rule": v.rule, "reply": said, "ar": v.text_ar, "en": v.text_en}
    if v.reply is not None and not v.refused:
        reason["refusal"] = str(v.reply)  # what is said if a person refuses what is held
    return reason | ({"facts": [list(pair) for pair in v.reasons]} if v.reasons else {})


def _hold(v: Verdict) -> HoldDraft:
    terms = v.hold or HoldTerms()
    return HoldDraft(
        rule=v.rule,
        ar=v.text_ar,
        en=v.text_en,
        approvers=terms.approvers or DEFAULT_APPROVERS,
        needs=terms.persons,
        expires_us=terms.expires_us,
        at_expiry=terms.then.value,
    )


def _receipts_to(v: Verdict, facts: Facts, agency: Agency | None) -> str | None:
    """The addresses that ``receipts_to`` means; None when that is the author alone."""
    meant: list[str] = []
    for word in v.receipts_to or ():
        if word == "registry":
            meant += [str(agency.registry)] if agency is not None and agency.registry is not None else []
        else:
            meant.append(facts.sender if word == "author" else word)
    names = [name for name in dict.fromkeys(meant) if name]
    return " ".join(names) if names and names != [facts.sender] else None


def _together(one: DeliveryDraft, other: DeliveryDraft) -> DeliveryDraft:
    """One delivery for two recipients of the same mailbox: what either is owed, both get."""
    names = [*(one.intended or str(one.recipient.address)).split(" ")]
    names += [n for n in (other.intended or str(other.recipient.address)).split(" ") if n not in names]
    direct = one.recipient if one.intended is None else other.recipient
    recipient = replace(direct, orcpt=None) if one.intended and other.intended else direct
    return replace(
        one,
        recipient=recipient,
        intended=" ".join(names) if len(names) > 1 else one.intended,
        bcc=one.bcc and other.bcc,
        asks=tuple(dict.fromkeys((*one.asks, *other.asks))),
        require_tls=one.require_tls or other.require_tls,
        due_us=min((d for d in (one.due_us, other.due_us) if d is not None), default=None),
    )


def _highest(found: Sequence[str], scale: Scale) -> str:
    """The highest degree that any recipient's copy has."""
    return found[0] if len(found) == 1 else scale.highest(found)


def _notified(verdicts: Sequence[Verdict], facts: Facts, kind: LetterKind) -> tuple[str, ...]:
    """Whom rules want told. Never of automatic mail (RFC 3834 §2), of no letter, of an agency in shadow."""
    if facts.automatic or kind not in (LetterKind.LETTER, LetterKind.REFUSED):
        return ()
    return tuple(dict.fromkeys(str(address) for v in verdicts for address in v.notify))
