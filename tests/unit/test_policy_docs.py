"""docs/policy.md against the code: its tables are made anew, its examples are loaded."""

from __future__ import annotations

import re

import pytest

from docs import policy_tables, tables
from policies.load import DEFAULT_SET, load_policy_texts

PAGE = policy_tables.PAGE.read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
FILES = {
    "rules": "more.yaml",
    "groups": "groups.yaml",
    "classifications": "marks.yaml",
    "zone": "calendar.yaml",
    "reminders": "followup.yaml",
}


@pytest.mark.parametrize("name", policy_tables.TABLES)
def test_a_table_is_what_the_code_says(name: str) -> None:
    made = policy_tables.TABLES[name]()
    assert tables.standing(PAGE, name) == made, "run `python docs/policy_tables.py`"


def test_the_administrators_guide_counts_the_rules_that_come_with_wasl() -> None:
    guide = (policy_tables.PAGE.parent / "administration.md").read_text("utf-8")
    told = re.findall(r"policy: (\d+) rules", guide)
    assert told == [str(len(load_policy_texts({}).rules))]


def folder() -> dict[str, str]:
    """The built-in set with the groups of the page beside its own."""
    files = {path.name: path.read_text("utf-8") for path in DEFAULT_SET}
    (groups,) = [block for block in BLOCKS if block.startswith("groups:")]
    return files | {"groups.yaml": files["groups.yaml"] + groups.partition("\n")[2]}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[1].strip(" -").replace(" ", ""))
def test_an_example_loads(block: str) -> None:
    kind = block.partition(":")[0]
    load_policy_texts(folder() | ({} if kind == "groups" else {FILES[kind]: block}))


def test_all_examples_load_together() -> None:
    files = folder()
    files |= {f"more-{i}.yaml": block for i, block in enumerate(BLOCKS) if block.startswith("rules:")}
    policy = load_policy_texts(files)
    assert len(policy.rules) > len(load_policy_texts({}).rules) + 12
    assert policy.needs_fields == {"x-spam-flag"}
