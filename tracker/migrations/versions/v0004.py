"""Repeats are found by their letter, rules that applied by their key alone. Revision 0004, after 0003.

One index in no order less is written for each letter, and on SQLite one tree less. What cannot come in parts
is found by the digest of its envelope; older letters get it as far back as a repeat is looked for.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TWO_DAYS_US = 48 * 3600 * 1_000_000
_DIGESTS = """
UPDATE letter SET digest = submission.envelope_digest
FROM submission
WHERE submission.letter_id = letter.id AND submission.at_us > :since AND letter.accepted_us > :since
AND (letter.kind <> 'letter' OR letter.digest IS NULL OR letter.message_id IS NULL)
"""
_HITS = """
CREATE TABLE anew_rule_hit (
    rule TEXT NOT NULL,
    letter_id BIGINT NOT NULL,
    shadow BOOLEAN NOT NULL,
    CONSTRAINT pk_rule_hit PRIMARY KEY (rule, letter_id),
    CONSTRAINT fk_rule_hit_letter_id FOREIGN KEY(letter_id) REFERENCES letter (id) ON DELETE CASCADE
) WITHOUT ROWID
"""


def upgrade() -> None:
    conn = op.get_bind()
    conn.execute(sa.text(_DIGESTS), {"since": time.time_ns() // 1000 - _TWO_DAYS_US})
    op.drop_index("ix_submission_envelope_digest", "submission")
    op.drop_index("ix_submission_letter_id", "submission")
    op.create_index("ix_submission_letter_id_envelope_digest", "submission", ["letter_id", "envelope_digest"])
    if conn.dialect.name != "sqlite":
        return
    conn.execute(sa.text(_HITS))
    conn.execute(sa.text("INSERT INTO anew_rule_hit SELECT rule, letter_id, shadow FROM rule_hit"))
    conn.execute(sa.text("DROP TABLE rule_hit"))
    conn.execute(sa.text("ALTER TABLE anew_rule_hit RENAME TO rule_hit"))
    op.create_index("ix_rule_hit_letter_id", "rule_hit", ["letter_id"])
