"""What every section of the settings is: frozen, closed to unknown keys, documented at its fields.

Apart from ``gateway/settings.py`` so that a part may keep its section in a file of its own beside it. How it
fails: pydantic's errors, which ``gateway/settings_file.py`` turns into faults with file and line.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One ``[section]`` of ``wasl.toml``."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
    )
