"""On SQLite a row is found by its id itself, without an index beside. Revision 0003, after 0002.

SQLite takes a key declared INTEGER for the row's own number, one declared BIGINT not, and keeps a tree of
its own for that: one more to write for each row of a letter. The tables are written anew, which takes about
a minute for a million letters. PostgreSQL has nothing to change.
"""

import re

from alembic import op
from sqlalchemy import Connection

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
_INDEXES = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?"


def upgrade() -> None:
    conn = op.get_bind()
    if conn.dialect.name != "sqlite":
        return
    for name, made in conn.exec_driver_sql(_TABLES).all():
        keys = [row for row in conn.exec_driver_sql(f"PRAGMA table_info({name})") if row.pk]
        if len(keys) == 1 and keys[0].type == "BIGINT":
            _write_anew(conn, name, made, keys[0].name)
    broken = conn.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise RuntimeError(f"a row of {broken[0]} refers to a row of {broken[2]} that is not there")


def _write_anew(conn: Connection, name: str, made: str, key: str) -> None:
    indexes = [sql for (sql,) in conn.exec_driver_sql(_INDEXES, (name,)).all()]
    head, body = made.split("(", 1)
    body, count = re.subn(rf"\b{key} BIGINT\b", f"{key} INTEGER", body, count=1)
    if count != 1 or name not in head:
        raise RuntimeError(f"the table {name} is not as it was made")
    conn.exec_driver_sql(f"CREATE TABLE anew_{name} ({body}")
    conn.exec_driver_sql(f"INSERT INTO anew_{name} SELECT * FROM {name} ORDER BY {key}")
    conn.exec_driver_sql(f"DROP TABLE {name}")
    conn.exec_driver_sql(f"ALTER TABLE anew_{name} RENAME TO {name}")
    for sql in indexes:
        conn.exec_driver_sql(sql)
