"""Every broken file in tests/configs is refused with exactly the faults that its first lines expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings_file import read_settings
from policies.directory import load_directory
from policies.faults import ConfigFaults
from policies.load import load_policy

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(CONFIGS.glob("*.*"))
EXPECT = "# expect: "


def load(file: Path) -> None:
    if file.name.startswith("settings"):
        read_settings(file, {})
    elif file.name.startswith("agency"):
        load_directory(file)
    else:
        load_policy(file)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_broken_file(file: Path) -> None:
    expected = [
        line.removeprefix(EXPECT) for line in file.read_text("utf-8").split("\n") if line.startswith(EXPECT)
    ]
    assert expected, "a broken file says what is wrong with it"
    with pytest.raises(ConfigFaults) as refused:
        load(file)
    assert [str(fault).removeprefix(f"{CONFIGS}/") for fault in refused.value.faults] == expected


def test_each_kind_of_file_is_there() -> None:
    kinds = {file.name.split("-")[0] for file in FILES}
    assert kinds == {"settings", "agency", "policy"}
    assert len(FILES) >= 30
