"""The shape of policy files as JSON Schema (draft 2020-12), for editors that check while one types.

Made of the models that the loader itself uses, so it cannot say otherwise: ``json_schema()`` is of files of
rules, with ``"groups"``, ``"calendar"``, ``"marks"`` and ``"followup"`` it is of the file of that name. A
value may stand alone where a list of one may; what a schema cannot say (names that must exist, keys that
exclude each other, expressions) the loader says.
"""

from __future__ import annotations

from typing import Any

from policies.calendar import CalendarEntry
from policies.entry import Entry
from policies.followup import FollowUpEntry
from policies.groups import GroupsEntry
from policies.load import RulesEntry
from policies.marks import MarksEntry

FILES: dict[str, type[Entry]] = {
    "rules": RulesEntry,
    "groups": GroupsEntry,
    "calendar": CalendarEntry,
    "marks": MarksEntry,
    "followup": FollowUpEntry,
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str = "rules") -> dict[str, Any]:
    """The schema of one kind of file; raises KeyError for a kind that there is not."""
    schema = FILES[kind].model_json_schema(mode="validation", by_alias=True)
    made: dict[str, Any] = {"$schema": DIALECT, "title": f"Wasl policy: {kind}"} | {
        key: _plain(value) for key, value in schema.items() if key != "title"
    }
    return made


def _plain(node: Any, *, names: bool = False) -> Any:
    """Without titles and nulls, lists with the shape of their only value beside them, lines joined.

    ``names``: the keys of ``node`` are names of properties, not words of the schema.
    """
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    out: dict[str, Any] = {}
    for key, value in node.items():
        if not names and key in ("title", "default") and not isinstance(value, dict):
            if key == "default" and value not in (None, []):
                out[key] = value
            continue
        if not names and key == "description":
            out[key] = " ".join(str(value).split())
            continue
        out[key] = _plain(value, names=not names and key in ("properties", "$defs"))
    if names:
        return out
    options = out.get("anyOf")
    if isinstance(options, list):
        options = [o for option in options for o in (option["anyOf"] if [*option] == ["anyOf"] else [option])]
        options = [o for n, o in enumerate(options) if o != {"type": "null"} and o not in options[:n]]
        if len(options) == 1:
            del out["anyOf"]
            out = options[0] | out
        else:
            out["anyOf"] = options
    if out.get("type") == "array" and "items" in out and out["items"].get("$ref") not in _BLOCKS:
        rest = {key: out.pop(key) for key in ("description", "default") if key in out}
        return {"anyOf": [out["items"], out], **rest}
    return out


# Lists of these are always written as lists.
_BLOCKS = frozenset(f"#/$defs/{name}" for name in ("RuleEntry", "DegreeEntry", "MarkEntry", "HolidayEntry"))
