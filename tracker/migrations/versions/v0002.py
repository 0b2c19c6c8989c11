"""Holds, policy versions, watched folders. Revision 0002, after 0001."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lease",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    op.create_table(
        "policy_activation",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("second", sa.Text(), nullable=True),
        sa.Column("active_us", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_activation")),
    )
    op.create_table(
        "refusal",
        sa.Column("agency", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agency", "day", "rule", name=op.f("pk_refusal")),
    )
    op.create_table(
        "watch_folder",
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("agency", sa.Text(), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("uidnext", sa.BigInteger(), nullable=False),
        sa.Column("modseq", sa.BigInteger(), nullable=True),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", "folder", name=op.f("pk_watch_folder")),
    )
    op.create_table(
        "watch_mailbox",
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("agency", sa.Text(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_us", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("mailbox", name=op.f("pk_watch_mailbox")),
    )
    op.create_table(
        "hold",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("letter_id", sa.BigInteger(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("reason_ar", sa.Text(), nullable=False),
        sa.Column("reason_en", sa.Text(), nullable=False),
        sa.Column("approvers", sa.JSON(), nullable=False),
        sa.Column("needs", sa.SmallInteger(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=True),
        sa.Column("at_expiry", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["letter_id"], ["letter.id"], name=op.f("fk_hold_letter_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
        sa.UniqueConstraint("delivery_id", name=op.f("uq_hold_delivery_id")),
    )
    with op.batch_alter_table("hold", schema=None) as batch_op:
        batch_op.create_index(
            "ix_hold_expires",
            ["expires_us"],
            unique=False,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )
        batch_op.create_index("ix_hold_letter_id", ["letter_id"], unique=False)
        batch_op.create_index(
            "ix_hold_open",
            ["id"],
            unique=False,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "incoming",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("agency", sa.Text(), nullable=False),
        sa.Column("letter_id", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("number_key", sa.Text(), nullable=True),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=True),
        sa.Column("registered_us", sa.BigInteger(), nullable=True),
        sa.Column("registered_by", sa.Text(), nullable=False),
        sa.Column("referred_to", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("changed_us", sa.BigInteger(), nullable=False),
        sa.Column("answer_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["letter_id"], ["letter.id"], name=op.f("fk_incoming_letter_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incoming")),
        sa.UniqueConstraint("agency", "letter_id", name=op.f("uq_incoming_agency_letter_id")),
        sa.UniqueConstraint("agency", "year", "number_key", name=op.f("uq_incoming_agency_year_number_key")),
    )
    with op.batch_alter_table("incoming", schema=None) as batch_op:
        batch_op.create_index("ix_incoming_agency_stage_id", ["agency", "stage", "id"], unique=False)
        batch_op.create_index("ix_incoming_agency_year_seq", ["agency", "year", "seq"], unique=False)
        batch_op.create_index("ix_incoming_letter_id", ["letter_id"], unique=False)

    op.create_table(
        "letter_link",
        sa.Column("letter_id", sa.BigInteger(), nullable=False),
        sa.Column("to_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("agency", sa.Text(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["letter_id"], ["letter.id"], name=op.f("fk_letter_link_letter_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["to_id"], ["letter.id"], name=op.f("fk_letter_link_to_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("letter_id", "to_id", name=op.f("pk_letter_link")),
    )
    with op.batch_alter_table("letter_link", schema=None) as batch_op:
        batch_op.create_index(
            "ix_letter_link_open",
            ["state", "letter_id"],
            unique=False,
            sqlite_where=sa.text("state IN ('answer', 'proposed')"),
            postgresql_where=sa.text("state IN ('answer', 'proposed')"),
        )
        batch_op.create_index("ix_letter_link_to_id", ["to_id"], unique=False)

    op.create_table(
        "rule_hit",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("letter_id", sa.BigInteger(), nullable=False),
        sa.Column("shadow", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["letter_id"], ["letter.id"], name=op.f("fk_rule_hit_letter_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rule", "letter_id", name=op.f("pk_rule_hit")),
    )
    with op.batch_alter_table("rule_hit", schema=None) as batch_op:
        batch_op.create_index("ix_rule_hit_letter_id", ["letter_id"], unique=False)

    op.create_table(
        "approval",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hold_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["hold_id"], ["hold.id"], name=op.f("fk_approval_hold_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_approval")),
        sa.UniqueConstraint("hold_id", "account", name=op.f("uq_approval_hold_id_account")),
    )
    op.create_table(
        "followup",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=True),
        sa.Column("letter_id", sa.BigInteger(), nullable=True),
        sa.Column("agency", sa.Text(), nullable=True),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("step_us", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sent_letter_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_followup_delivery_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_followup")),
        sa.UniqueConstraint("subject", "step", name=op.f("uq_followup_subject_step")),
    )
    with op.batch_alter_table("followup", schema=None) as batch_op:
        batch_op.create_index("ix_followup_delivery_id", ["delivery_id"], unique=False)
        batch_op.create_index(
            "ix_followup_due",
            ["id"],
            unique=False,
            sqlite_where=sa.text("state = 'due'"),
            postgresql_where=sa.text("state = 'due'"),
        )
        batch_op.create_index("ix_followup_letter_id", ["letter_id"], unique=False)

    op.create_table(
        "referral",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("incoming_id", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("to", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incoming_id"], ["incoming.id"], name=op.f("fk_referral_incoming_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_referral")),
    )
    with op.batch_alter_table("referral", schema=None) as batch_op:
        batch_op.create_index("ix_referral_incoming_id", ["incoming_id"], unique=False)

    op.create_table(
        "watch_message",
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["delivery.id"], name=op.f("fk_watch_message_delivery_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("mailbox", "folder", "uid", name=op.f("pk_watch_message")),
    )
    with op.batch_alter_table("watch_message", schema=None) as batch_op:
        batch_op.create_index("ix_watch_message_delivery_id", ["delivery_id"], unique=False)

    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.add_column(sa.Column("intended", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("copy_by", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("receipts_to", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("digest", sa.Boolean(), nullable=True))
        batch_op.add_column(sa.Column("from_agency", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("due_us", sa.BigInteger(), nullable=True))
        batch_op.create_index(
            "ix_delivery_awaited",
            ["agency", "due_us", "id"],
            unique=False,
            sqlite_where=sa.text(
                "due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'"
            ),
            postgresql_where=sa.text(
                "due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'"
            ),
        )
        batch_op.create_index(
            "ix_delivery_due_us",
            ["due_us", "id"],
            unique=False,
            sqlite_where=sa.text(
                "due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'"
            ),
            postgresql_where=sa.text(
                "due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'"
            ),
        )
        batch_op.create_index(
            "ix_delivery_owed",
            ["from_agency", "due_us", "id"],
            unique=False,
            sqlite_where=sa.text(
                "due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'"
            ),
            postgresql_where=sa.text(
                "due_us IS NOT NULL AND outcome IN ('open', 'reopened') AND state <> 'held'"
            ),
        )
        batch_op.create_index(
            "ix_delivery_untaken",
            ["agency", "letter_id", "grade"],
            unique=False,
            sqlite_where=sa.text(
                "state = 'sent' AND grade < 6 AND outcome = 'open' AND kind IN ('letter', 'shadow')"
            ),
            postgresql_where=sa.text(
                "state = 'sent' AND grade < 6 AND outcome = 'open' AND kind IN ('letter', 'shadow')"
            ),
        )

    with op.batch_alter_table("policy_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("note", sa.Text(), server_default="", nullable=False))
    # What is awaited from before: the due date of a letter was that of all its recipients.
    op.execute(
        "UPDATE delivery SET due_us = (SELECT le.due_us FROM letter le WHERE le.id = delivery.letter_id), "
        "from_agency = (SELECT le.agency FROM letter le WHERE le.id = delivery.letter_id) "
        "WHERE letter_id IN (SELECT le.id FROM letter le WHERE le.due_us IS NOT NULL)"
    )
