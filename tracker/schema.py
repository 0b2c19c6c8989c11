"""The tables, for SQLite and PostgreSQL alike (SQLAlchemy Core).

Times are microseconds of UTC (``*_us``), ids are :class:`tracker.model.IdSource` ids made by the
writing process, so that every insert of a group is one executemany. State changes are rows
(``evidence``); ``delivery`` keeps the present beside them for the relay and for lists.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


# A key of one column: SQLite takes INTEGER for the row's own number and needs no index for it.
_KEY = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> Column[int]:
    return Column("id", _KEY, primary_key=True, autoincrement=False)


meta = Table("meta", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

letter = Table(
    "letter",
    metadata,
    _id(),
    Column("kind", Text, nullable=False),  # LetterKind
    Column("number", Text, unique=True),  # None for what takes no number
    Column("agency", Text),  # code of the sending agency
    Column("year", Integer),
    Column("seq", Integer),
    Column("author", Text, nullable=False, default=""),  # From, as an address
    Column("author_name", Text, nullable=False, default=""),
    Column("message_id", Text),
    Column("subject", Text, nullable=False, default=""),
    Column("subject_fold", Text, nullable=False, default=""),  # folded for search (GLOSSARY)
    Column("digest", LargeBinary),  # what it is found by: tracker.same_letter.known_by
    Column("thread_id", BigInteger, nullable=False),
    Column("answers", BigInteger),  # the letter that this one answers
    Column("receipt_for", BigInteger),  # for kind receipt: the letter it speaks of
    Column("classification", Text, nullable=False, default=""),
    Column("urgency", Text, nullable=False, default=""),
    Column("due_us", BigInteger),
    Column("accepted_us", BigInteger, nullable=False),
)
Index("ix_letter_agency_id", letter.c.agency, letter.c.id)
Index("ix_letter_message_id", letter.c.message_id)
Index("ix_letter_thread_id", letter.c.thread_id)
Index("ix_letter_digest", letter.c.digest)
_transient = text("kind = 'pass'")
Index("ix_letter_pass", letter.c.id, sqlite_where=_transient, postgresql_where=_transient)

# One mail transaction (RFC 5321 §3.3) that carried the letter, or a part of its recipients.
submission = Table(
    "submission",
    metadata,
    _id(),
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("door", Text, nullable=False),
    Column("peer", Text, nullable=False, default=""),
    Column("helo", Text, nullable=False, default=""),
    Column("tls", Text),
    Column("account", Text),
    Column("sender", Text, nullable=False),  # reverse-path, "" for null
    Column("ret", Text),
    Column("envid", Text),
    Column("body", Text, nullable=False, default="7BIT"),
    Column("smtputf8", Boolean, nullable=False, default=False),
    Column("requiretls", Boolean, nullable=False, default=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("archive_key", Text, nullable=False),
    Column("envelope_digest", LargeBinary),  # same agency, same envelope, same octets: a repeat
    Column("facts", JSON, nullable=False),
    Column("facts_version", Integer, nullable=False),
    Column("decision", JSON, nullable=False),  # verdicts, rules hit and missed
    Column("policy_version", Text, nullable=False, default=""),
)
# A repeat is found by its letter, which is found by its digest: what is in no order is written once a letter.
Index("ix_submission_letter_id_envelope_digest", submission.c.letter_id, submission.c.envelope_digest)

delivery = Table(
    "delivery",
    metadata,
    _id(),
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), nullable=False),
    Column("submission_id", BigInteger, nullable=False),  # always of the same letter: no index of its own
    Column("kind", Text, nullable=False),  # DeliveryKind
    Column("recipient", Text, nullable=False),
    Column("recipient_key", Text, nullable=False),  # Address.key
    Column("agency", Text),  # code of the receiving agency
    Column("bcc", Boolean, nullable=False, default=False),
    Column("notify", Text),
    Column("orcpt", Text),
    Column(
        "asks", Text, nullable=False, default=""
    ),  # events that earn the author a receipt, space-separated
    Column("tag", Boolean, nullable=False, default=False),  # our fields, our return address
    Column("subject_tag", Boolean, nullable=False, default=False),
    Column("sign", Boolean, nullable=False, default=False),
    Column("require_tls", Boolean, nullable=False, default=False),
    Column("hop", Text, nullable=False),  # name of the next hop: "MOH", "MOF:outbound"
    Column("state", Text, nullable=False),  # State
    Column("grade", SmallInteger, nullable=False),  # Grade
    Column("outcome", Text, nullable=False),  # Outcome
    Column("next_us", BigInteger, nullable=False),  # when it is due again
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", Text),
    Column("lease_us", BigInteger),  # the lease ends
    Column("warned_us", BigInteger),  # the author was told that it is late
    Column("expires_us", BigInteger, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("last_reply", Text),
    Column("intended", Text),  # whom the author named, where policy delivers to another mailbox
    Column("copy_by", Text),  # the rule that added this recipient
    Column("receipts_to", Text),  # who gets the receipts, space-separated; None: the author
    Column("digest", Boolean),  # receipts in a digest; None: as the settings say
    Column("from_agency", Text),  # code of the sending agency
    Column("due_us", BigInteger),  # when an answer of this recipient is due; of letters only
)
Index("ix_delivery_letter_id", delivery.c.letter_id)
Index("ix_delivery_agency_letter_id", delivery.c.agency, delivery.c.letter_id)
_due = text("state IN ('queued', 'sending')")
Index("ix_delivery_due", delivery.c.state, delivery.c.next_us, sqlite_where=_due, postgresql_where=_due)
# What lies at an agency and nobody there has taken in: the register desk's list, oldest first.
_untaken = text("state = 'sent' AND grade < 6 AND outcome = 'open' AND kind IN ('letter', 'shadow')")
Index(
    "ix_delivery_untaken",
    delivery.c.agency,
    delivery.c.letter_id,
    delivery.c.grade,
    sqlite_where=_untaken,
    postgresql_where=_untaken,
)
# Answers that are awaited: at an agency, by an agency, and all of them, in the order of their due dates.
_awaited = text("due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'")
for _name, _first in (
    ("ix_delivery_awaited", (delivery.c.agency,)),
    ("ix_delivery_owed", (delivery.c.from_agency,)),
    ("ix_delivery_due_us", ()),
):
    Index(
        _name,
        *_first,
        delivery.c.due_us,
        delivery.c.id,
        sqlite_where=_awaited,
        postgresql_where=_awaited,
    )

attempt = Table(
    "attempt",
    metadata,
    _id(),
    Column("delivery_id", BigInteger, ForeignKey("delivery.id", ondelete="CASCADE"), nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),  # None: registered, not noted: in doubt once its lease is over
    Column("owner", Text, nullable=False),
    Column("hop", Text, nullable=False),
    Column("peer", Text),  # host[ip]:port
    Column("tls", Text),
    Column("reply", Text),  # the final reply for this recipient
    Column("transcript", Text),  # the dialogue's replies, one a line
    Column("result", Text),  # Event value
    Column("edit", JSON),  # what was taken out and put before the original octets (promise 3)
)
Index("ix_attempt_delivery_id", attempt.c.delivery_id)

evidence = Table(
    "evidence",
    metadata,
    _id(),
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), nullable=False),
    Column("delivery_id", BigInteger),  # None: of the whole letter
    Column("event", Text, nullable=False),  # Event
    Column("grade", SmallInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),  # when it happened, as told
    Column("noted_us", BigInteger, nullable=False),  # when we wrote it
    Column("source", Text, nullable=False),  # "wasl", "smtp", "lmtp", "dsn", "mdn", "person", "timer"
    Column("reporter", Text, nullable=False, default=""),  # the server or person that says so
    Column("detail", JSON, nullable=False),
    Column("salt", LargeBinary),  # opens the ledger's commitment; destroyed at disposal
)
Index("ix_evidence_letter_id", evidence.c.letter_id, evidence.c.id)

# The append-only log (tracker/LEDGER.md). seq is the leaf index; no gap, no update, no delete.
ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("seq", _KEY, primary_key=True, autoincrement=False),
    Column("evidence_id", BigInteger),
    Column("entry", LargeBinary, nullable=False),
)
Index("ix_ledger_entry_evidence_id", ledger_entry.c.evidence_id)

# Entries of a gateway with several nodes wait here for the sequencer.
ledger_pending = Table(
    "ledger_pending",
    metadata,
    _id(),
    Column("evidence_id", BigInteger),
    Column("entry", LargeBinary, nullable=False),
)

# Hashes by C2SP tlog-tiles: level, tile index, up to 256 hashes of 32 octets.
ledger_tile = Table(
    "ledger_tile",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("tile", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("size", _KEY, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("note", Text, nullable=False),  # the signed note (C2SP tlog-checkpoint)
)

receipt = Table(
    "receipt",
    metadata,
    _id(),
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), nullable=False),
    Column("delivery_id", BigInteger, nullable=False, default=0),  # 0: of the whole letter
    Column("kind", Text, nullable=False),  # Event value that it tells
    Column("recipient", Text, nullable=False),
    Column("evidence_id", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # due, sent, gathered
    Column("sent_letter_id", BigInteger),
    UniqueConstraint("letter_id", "delivery_id", "kind"),
)
_receipt_due = text("state = 'due'")
Index("ix_receipt_due", receipt.c.due_us, sqlite_where=_receipt_due, postgresql_where=_receipt_due)

counter = Table(
    "counter",
    metadata,
    Column("agency", Text, primary_key=True),
    Column("year", Integer, primary_key=True, autoincrement=False),
    Column("register", Text, primary_key=True),  # "out", "in"
    Column("value", Integer, nullable=False),
)

# Reports and answers that could not be matched: a person looks at them.
worklist = Table(
    "worklist",
    metadata,
    _id(),
    Column("at_us", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),  # dsn, mdn, bounce, auto-reply, other
    Column("reason", Text, nullable=False),
    Column("sender", Text, nullable=False, default=""),
    Column("subject", Text, nullable=False, default=""),
    Column("letter_id", BigInteger),  # the letter it may belong to
    Column("archive_key", Text),
    Column("detail", JSON, nullable=False),
    Column("state", Text, nullable=False, default="open"),  # open, done
)
Index("ix_worklist_state_id", worklist.c.state, worklist.c.id)

account = Table(
    "account",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("display", Text, nullable=False, default=""),
    Column("agency", Text),  # None: all agencies (administrators, compliance of the whole)
    Column("role", Text, nullable=False),  # admin, compliance, registry, viewer
    Column("password", Text, nullable=False),  # argon2
    Column("language", Text, nullable=False, default="ar"),
    Column("disabled", Boolean, nullable=False, default=False),
    Column("must_change", Boolean, nullable=False, default=False),
    Column("created_us", BigInteger, nullable=False),
)

web_session = Table(
    "web_session",
    metadata,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("account.id", ondelete="CASCADE"), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
    Column("peer", Text, nullable=False, default=""),
)

# Who looked at what, searched for what, signed in (promise 5).
audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at_us", BigInteger, nullable=False),
    Column("account", Text, nullable=False),
    Column("agency", Text),
    Column("action", Text, nullable=False),  # sign-in, search, view-letter, view-content, ...
    Column("object", Text, nullable=False, default=""),
    Column("detail", JSON, nullable=False),
    Column("peer", Text, nullable=False, default=""),
)

# Every policy that was ever loaded, by the digest of its files.
policy_version = Table(
    "policy_version",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False, default=""),
    Column("note", Text, nullable=False, server_default=""),
    Column("files", JSON, nullable=False),  # name -> text
)

# Which policy came into force when, and who asked for and agreed to it.
policy_activation = Table(
    "policy_activation",
    metadata,
    _id(),
    Column("digest", Text, nullable=False),
    Column("state", Text, nullable=False),  # proposed, active, withdrawn
    Column("at_us", BigInteger, nullable=False),  # asked for
    Column("by", Text, nullable=False, default=""),
    Column("second", Text),  # who agreed
    Column("active_us", BigInteger),  # in force since
    Column("note", Text, nullable=False, default=""),
)

# Which rules of the policy folder applied to which recorded letter.
rule_hit = Table(
    "rule_hit",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), primary_key=True),
    Column("shadow", Boolean, nullable=False, default=False),  # would have applied
    sqlite_with_rowid=False,
)
Index("ix_rule_hit_letter_id", rule_hit.c.letter_id)

# Refusals in session of what an agency's server or people wanted to send: numbers only, no addresses.
refusal = Table(
    "refusal",
    metadata,
    Column("agency", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # days of UTC since 1970
    Column("rule", Text, primary_key=True),
    Column("reply", Text, nullable=False, default=""),
    Column("count", Integer, nullable=False),
    Column("last_us", BigInteger, nullable=False),
)

# A delivery that waits for the approval of one or two persons.
hold = Table(
    "hold",
    metadata,
    _id(),
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), nullable=False),
    Column("delivery_id", BigInteger, nullable=False, unique=True),
    Column("rule", Text, nullable=False),
    Column("reason_ar", Text, nullable=False, default=""),
    Column("reason_en", Text, nullable=False, default=""),
    Column("approvers", JSON, nullable=False),  # who may decide: roles, agencies, account names
    Column("needs", SmallInteger, nullable=False, default=1),  # different persons
    Column("since_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("at_expiry", Text, nullable=False, default="refuse"),  # release, refuse
    Column("state", Text, nullable=False),  # open, released, refused, expired
    Column("decided_us", BigInteger),
)
_hold_open = text("state = 'open'")
Index("ix_hold_letter_id", hold.c.letter_id)
Index("ix_hold_open", hold.c.id, sqlite_where=_hold_open, postgresql_where=_hold_open)
Index("ix_hold_expires", hold.c.expires_us, sqlite_where=_hold_open, postgresql_where=_hold_open)

approval = Table(
    "approval",
    metadata,
    _id(),
    Column("hold_id", BigInteger, ForeignKey("hold.id", ondelete="CASCADE"), nullable=False),
    Column("account", Text, nullable=False),
    Column("act", Text, nullable=False),  # release, refuse
    Column("at_us", BigInteger, nullable=False),
    Column("note", Text, nullable=False, default=""),
    UniqueConstraint("hold_id", "account"),
)

# A letter at an agency that received it: its entry in the incoming register there, and what is done with it.
incoming = Table(
    "incoming",
    metadata,
    _id(),
    Column("agency", Text, nullable=False),
    Column("letter_id", BigInteger, ForeignKey("letter.id"), nullable=False),  # a register loses no entry
    Column("stage", Text, nullable=False),  # registered, referred, in-progress, returned, closed
    Column("number", Text),  # رقم الوارد as it is shown; None: taken in without one
    Column("number_key", Text),  # what makes it that number in its year
    Column("year", Integer),
    Column("seq", Integer),  # assigned in order; of the registry's own numbers what stands in them
    Column("registered_us", BigInteger),
    Column("registered_by", Text, nullable=False, default=""),  # "": the registry, person unknown
    Column("referred_to", Text, nullable=False, default=""),  # who is to act
    Column("note", Text, nullable=False, default=""),  # the reason of a return, the result
    Column("by", Text, nullable=False, default=""),  # of the last act
    Column("changed_us", BigInteger, nullable=False),
    Column("answer_id", BigInteger),  # the letter that closed or advanced it
    UniqueConstraint("agency", "letter_id"),
    UniqueConstraint("agency", "year", "number_key"),
)
Index("ix_incoming_agency_stage_id", incoming.c.agency, incoming.c.stage, incoming.c.id)
Index("ix_incoming_letter_id", incoming.c.letter_id)
Index("ix_incoming_agency_year_seq", incoming.c.agency, incoming.c.year, incoming.c.seq)

# To whom an agency referred a letter inside its house, with remarks that stay in that house.
referral = Table(
    "referral",
    metadata,
    _id(),
    Column("incoming_id", BigInteger, ForeignKey("incoming.id", ondelete="CASCADE"), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("by", Text, nullable=False, default=""),
    Column("to", Text, nullable=False),
    Column("purpose", Text, nullable=False),  # action, information
    Column("remark", Text, nullable=False, default=""),
)
Index("ix_referral_incoming_id", referral.c.incoming_id)

# What a letter says it answers. A proposal waits for a person who sees both letters; an answer waits until
# it has passed through, then it closes or advances the letter that it answers.
letter_link = Table(
    "letter_link",
    metadata,
    Column("letter_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), primary_key=True),
    Column("to_id", BigInteger, ForeignKey("letter.id", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),  # proposed, confirmed, declined; answer, done, dropped; follows
    Column("how", Text, nullable=False),  # subject, text, header, person
    Column("agency", Text, nullable=False, default=""),  # that answers
    Column("effect", Text, nullable=False, default="nothing"),  # closes, advances, nothing
    Column("by", Text, nullable=False, default=""),
    Column("at_us", BigInteger, nullable=False),
)
Index("ix_letter_link_to_id", letter_link.c.to_id)
_link_open = text("state IN ('answer', 'proposed')")
Index(
    "ix_letter_link_open",
    letter_link.c.state,
    letter_link.c.letter_id,
    sqlite_where=_link_open,
    postgresql_where=_link_open,
)

# What follow-up has done: each step of a letter's plan once, each digest once a day. A row is written before
# its mail is made, and settled in the transaction that accepts the mail.
followup = Table(
    "followup",
    metadata,
    _id(),
    Column("subject", Text, nullable=False),  # id of the delivery, or whose digest: "MOH", "" for the whole
    Column("step", Text, nullable=False),  # "2 working days before", "escalate", "expire"; of digests the day
    Column("kind", Text, nullable=False),  # remind, escalate, expire, digest
    Column("delivery_id", BigInteger, ForeignKey("delivery.id", ondelete="CASCADE")),
    Column("letter_id", BigInteger),
    Column("agency", Text),  # that is reminded
    Column("recipient", Text, nullable=False, default=""),  # mailboxes, space-separated
    Column("step_us", BigInteger, nullable=False),  # when the step was due by the plan
    Column("at_us", BigInteger, nullable=False),  # when it was taken up
    Column("state", Text, nullable=False),  # due, sent, noted (no mail), passed (a later one took its place)
    Column("sent_letter_id", BigInteger),
    UniqueConstraint("subject", "step"),
)
_followup_due = text("state = 'due'")
Index("ix_followup_due", followup.c.id, sqlite_where=_followup_due, postgresql_where=_followup_due)
Index("ix_followup_letter_id", followup.c.letter_id)
Index("ix_followup_delivery_id", followup.c.delivery_id)

# Which process does what only one of several nodes may do at a time.
lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),  # node/incarnation
    Column("until_us", BigInteger, nullable=False),
)

# Which process watches a mailbox, and how that goes.
watch_mailbox = Table(
    "watch_mailbox",
    metadata,
    Column("mailbox", Text, primary_key=True),  # Address.key
    Column("agency", Text, nullable=False),
    Column("lease_owner", Text),  # node/incarnation
    Column("lease_us", BigInteger),  # the lease ends
    Column("state", Text, nullable=False, default=""),  # connecting, watching, waiting
    Column("note", Text, nullable=False, default=""),  # what is wrong, in words
    Column("changed_us", BigInteger, nullable=False, default=0),  # the state came
    Column("seen_us", BigInteger, nullable=False, default=0),  # the mailbox last answered
)

# How far a watched folder has been read, and which of its messages are ours.
watch_folder = Table(
    "watch_folder",
    metadata,
    Column("mailbox", Text, primary_key=True),  # the service's account at the agency's server
    Column("folder", Text, primary_key=True),
    Column("agency", Text, nullable=False),
    Column("uidvalidity", BigInteger, nullable=False),
    Column("uidnext", BigInteger, nullable=False),
    Column("modseq", BigInteger),
    Column("seen_us", BigInteger, nullable=False),
)
watch_message = Table(
    "watch_message",
    metadata,
    Column("mailbox", Text, primary_key=True),
    Column("folder", Text, primary_key=True),
    Column("uid", BigInteger, primary_key=True, autoincrement=False),
    Column("delivery_id", BigInteger, ForeignKey("delivery.id", ondelete="CASCADE"), nullable=False),
    Column("flags", Text, nullable=False, default=""),
)
Index("ix_watch_message_delivery_id", watch_message.c.delivery_id)
