"""``wasl policy``: whether the rules are right, what they do to a letter, and what others would do.

The commands stand in files by what they are about: versions (``policy_versions``), the replay
(``policy_replay``), one letter (``policy_letter``) and the rules themselves (``policy_rules``).
"""

from __future__ import annotations

import typer

from gateway.commands import policy_letter, policy_replay, policy_rules, policy_versions

app = typer.Typer(no_args_is_help=True, help="The rules: check, test, explain, replay, versions.")

app.command()(policy_rules.check)
app.command()(policy_rules.rules)
app.command()(policy_rules.test)
app.command("try")(policy_letter.try_)
app.command()(policy_letter.explain)
app.command()(policy_replay.replay)
app.command()(policy_versions.versions)
app.command()(policy_versions.diff)
app.command()(policy_versions.rollback)
app.command()(policy_versions.approve)
app.command()(policy_versions.reload)
app.command()(policy_rules.schema)
