"""The reference in docs/policy.md, made of the code: `python docs/policy_tables.py` writes it anew.

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`, as in docs/tables.py.
tests/unit/test_policy_docs.py fails when a table is not what the code says, or an example does not load.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs.tables import put
from policies.case import FUNCTIONS, VARIABLES
from policies.load import load_policy
from policies.schema_export import json_schema

PAGE = Path(__file__).parent / "policy.md"


def _kind(field: dict[str, Any], blocks: dict[str, Any]) -> str:
    """What may stand as a value, in few words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        block = blocks[name]
        if "enum" in block:
            return _kind(block, blocks)
        return "a block, [below](#" + _ANCHORS.get(name, "reference") + ")"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        options = field["anyOf"]
        lists = [o for o in options if o.get("type") == "array"]
        single = [o for o in options if o.get("type") != "array"]
        words = " or ".join(dict.fromkeys(_kind(o, blocks) for o in single))
        return f"{words}; one or a list" if lists else words
    if field.get("type") == "array":
        return f"list of {_kind(field['items'], blocks)}"
    if field.get("type") == "object":
        return "a block"
    return _PLAIN.get(str(field.get("type")), "text")


_PLAIN = {"boolean": "`true`, `false`", "integer": "number", "string": "text", "number": "number"}
_ANCHORS = {
    "Match": "match-and-unless",
    "Reply": "reply",
    "Hold": "hold",
    "Limit": "limit",
    "Description": "rule",
    "GroupEntry": "groupsyaml",
    "HolidayEntry": "calendaryaml",
    "DegreeEntry": "marksyaml",
    "MarkEntry": "marksyaml",
    "EscalationEntry": "followupyaml",
    "DigestEntry": "followupyaml",
    "AgencyFollowUpEntry": "followupyaml",
    "UrgencyFollowUpEntry": "followupyaml",
}


def _table(kind: str, block: str | None) -> str:
    schema = json_schema(kind)
    blocks = schema.get("$defs", {})
    shape = blocks[block] if block is not None else schema
    rows = ["| key | value | what it says |", "|---|---|---|"]
    for key, field in shape["properties"].items():
        words = field.get("description", "")
        if key in shape.get("required", ()):
            words += " Required."
        elif field.get("default") not in (None, ""):
            default = field["default"]
            shown = ", ".join(map(str, default)) if isinstance(default, list) else default
            words += f" Default: `{shown}`."
        cells = (f"`{key}`", _kind(field, blocks), words)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _variables() -> str:
    rows = ["| name | type | what it is |", "|---|---|---|"]
    rows += [f"| `{name}` | {kind} | {words} |" for name, (_, kind, words) in VARIABLES.items()]
    return "\n".join(rows)


def _functions() -> str:
    rows = ["| function | what it gives |", "|---|---|"]
    rows += [f"| `{shown}` | {words} |" for _, shown, words in FUNCTIONS.values()]
    return "\n".join(rows)


def _built_in() -> str:
    """The built-in rules in the order in which they are asked."""
    policy = load_policy()
    rows = ["| priority | rule | file | what it does |", "|---|---|---|---|"]
    for rule in policy.rules:
        file = rule.file.rpartition("/")[2]
        does = rule.does or "sets nothing"
        if rule.limit is not None:
            does = f"{does} above {rule.limit.count} per {rule.limit.per}"
        rows.append(f"| {rule.priority} | `{rule.id}` | {file} | {does}: {rule.en} |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "rule": lambda: _table("rules", "RuleEntry"),
    "match": lambda: _table("rules", "Match"),
    "reply": lambda: _table("rules", "Reply"),
    "hold": lambda: _table("rules", "Hold"),
    "limit": lambda: _table("rules", "Limit"),
    "group": lambda: _table("groups", "GroupEntry"),
    "calendar": lambda: _table("calendar", None),
    "holiday": lambda: _table("calendar", "HolidayEntry"),
    "marks": lambda: _table("marks", None),
    "degree": lambda: _table("marks", "DegreeEntry"),
    "mark": lambda: _table("marks", "MarkEntry"),
    "followup": lambda: _table("followup", None),
    "escalation": lambda: _table("followup", "EscalationEntry"),
    "digest": lambda: _table("followup", "DigestEntry"),
    "agency-followup": lambda: _table("followup", "AgencyFollowUpEntry"),
    "variables": _variables,
    "functions": _functions,
    "built-in": _built_in,
}


def main() -> int:
    """Write all tables; exit status 0."""
    text = PAGE.read_text("utf-8")
    for name, made in TABLES.items():
        text = put(text, name, made())
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
