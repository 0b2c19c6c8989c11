"""How many wait: the figure for the metrics, from the index of what is due, on both databases."""

from __future__ import annotations

from sqlalchemy import insert

from tests.records import made_store
from tracker import schema
from tracker.queue_list import depth
from tracker.states import State


def test_depth_counts_what_is_due_and_says_nought(record_url: str) -> None:
    store = made_store(record_url)
    try:
        with store.reader.connect() as conn:
            assert depth(conn) == {State.QUEUED: 0, State.SENDING: 0}
        with store.writer.begin() as conn:
            letter = {"id": 1, "kind": "pass", "accepted_us": 1, "thread_id": 1}
            conn.execute(insert(schema.letter), [_filled(schema.letter, letter)])
            conn.execute(insert(schema.submission), [_filled(schema.submission, {"id": 2, "letter_id": 1})])
            states = [State.QUEUED] * 3 + [State.SENDING, State.HELD, State.SENT]
            rows = [
                _filled(
                    schema.delivery,
                    {"id": 10 + i, "letter_id": 1, "submission_id": 2, "state": state.value},
                )
                for i, state in enumerate(states)
            ]
            conn.execute(insert(schema.delivery), rows)
        with store.reader.connect() as conn:
            assert depth(conn) == {State.QUEUED: 3, State.SENDING: 1}
    finally:
        store.close()


def _filled(table: object, row: dict[str, object]) -> dict[str, object]:
    """A row with something in every column that must not be empty."""
    from sqlalchemy import JSON, Boolean, LargeBinary, Table, Text

    assert isinstance(table, Table)
    for column in table.c:
        if column.name in row or column.nullable or column.default is not None:
            continue
        if isinstance(column.type, Text):
            row[column.name] = ""
        elif isinstance(column.type, JSON):
            row[column.name] = {}
        elif isinstance(column.type, LargeBinary):
            row[column.name] = b""
        elif isinstance(column.type, Boolean):
            row[column.name] = False
        else:
            row[column.name] = 0
    return row
