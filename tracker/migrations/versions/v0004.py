"""Repeats are found by their letter, rules that applied by their key alone. Revision 0004, after 0003.

One index in no order less is written for each letter, and on SQLite one tree less. A letter without a digest
of its own gets that of its octets, by which its repeats are found from now on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

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
    op.execute(
        "UPDATE letter SET digest = "
        "(SELECT sha256 FROM submission WHERE submission.letter_id = letter.id ORDER BY id LIMIT 1) "
        "WHERE digest IS NULL"
    )
    op.drop_index("ix_submission_envelope_digest", "submission")
    op.drop_index("ix_submission_letter_id", "submission")
    op.create_index("ix_submission_letter_id_envelope_digest", "submission", ["letter_id", "envelope_digest"])
    conn = op.get_bind()
    if conn.dialect.name != "sqlite":
        return
    conn.execute(sa.text(_HITS))
    conn.execute(sa.text("INSERT INTO anew_rule_hit SELECT rule, letter_id, shadow FROM rule_hit"))
    conn.execute(sa.text("DROP TABLE rule_hit"))
    conn.execute(sa.text("ALTER TABLE anew_rule_hit RENAME TO rule_hit"))
    op.create_index("ix_rule_hit_letter_id", "rule_hit", ["letter_id"])
