"""The commented ``wasl.toml`` that ``wasl init`` writes, made from the settings' own fields.

What a new gateway must say stands there as keys, everything else as comments with its default, so
that the file documents itself and cannot disagree with the code. The README's table is made of the
same fields: ``python -m gateway.settings_template`` prints it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.setting_values import Endpoint, duration_text
from gateway.settings import GatewayDkim, Listen, Settings

HEAD = """\
# Settings of Wasl. Lines that begin with "# key =" show the default; take away the "# " to change one.
# Paths are relative to this file. WASL__SECTION__KEY in the environment overrides a key.
# `wasl check` tells every fault with its line.
"""


def template(given: Mapping[str, Mapping[str, Any]], listen: Sequence[Mapping[str, str]]) -> str:
    """The text of a settings file that says ``given`` (section → key → value) and listens as told."""
    out = [HEAD]
    for name, info in Settings.model_fields.items():
        model = _model(info)
        if model is None:
            continue
        out.append("\n".join(f"# {line}".rstrip() for line in (inspect.getdoc(model) or "").splitlines()))
        if model in (Listen, GatewayDkim):
            out.append(_entries(name, model, listen if model is Listen else ()))
            continue
        lines = [f"[{name}]"]
        for key, field in model.model_fields.items():
            lines += [f"# {line}" for line in (field.description or "").splitlines()]
            if key in given.get(name, {}):
                lines.append(f"{key} = {toml(given[name][key])}")
            else:
                default = field.get_default(call_default_factory=True)
                lines.append(f"# {key} = {toml(default)}" if default is not None else f"# {key} =")
        out.append("\n".join(lines) + "\n")
    return "\n".join(out)


def table() -> str:
    """The README's table of settings: one row a key, with its default and what it means."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, info in Settings.model_fields.items():
        model = _model(info)
        if model is None:
            continue
        several = model in (Listen, GatewayDkim)
        for key, field in model.model_fields.items():
            words = " ".join((field.description or "").split()).replace("|", "\\|").replace("<", "&lt;")
            shown = f"`[[{name}]]` `{key}`" if several else f"`{name}.{key}`"
            rows.append(f"| {shown} | {_default(field)} | {words} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else f"`{toml(value)}`"


def _entries(name: str, model: type[BaseModel], entries: Sequence[Mapping[str, str]]) -> str:
    lines = [
        f"# {key}: {field.description}" for key, field in model.model_fields.items() if field.description
    ]
    for entry in entries:
        lines += ["", f"[[{name}]]"] + [f"{key} = {toml(value)}" for key, value in entry.items()]
    if not entries:
        lines += [f"# [[{name}]]"] + [f"# {key} =" for key in model.model_fields]
    return "\n".join(lines) + "\n"


def _model(info: FieldInfo) -> type[BaseModel] | None:
    for candidate in (info.annotation, *getattr(info.annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def toml(value: object) -> str:
    """A value as TOML text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return f'"{duration_text(value)}"'
    if isinstance(value, Enum):
        return f'"{value.value}"'
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, (Path, Endpoint)):
        return f'"{value}"'
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


if __name__ == "__main__":
    print(table())
