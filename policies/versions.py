"""A policy as the texts of its files: read from a folder, kept by digest, written back, compared.

A version is everything that decided: the folder's own rule files, calendar, groups and marks, the safety
rules of this program (``default/…``) and what ``settings`` stands for (``settings/limits.json``). So a
version that was kept can be compiled again years later and decides what it decided then. Names are
paths inside the folder. What is wrong in a folder raises :class:`policies.faults.ConfigFaults`; a folder
that cannot be written raises OSError.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from policies.chain import Policy
from policies.directory import Directory
from policies.document import MAX_OCTETS
from policies.faults import ConfigFaults, Fault
from policies.load import BUILT_IN, EXAMPLES, Limits, load_policy_texts, policy_files

LIMITS = "settings/limits.json"
NOT_OWN = (BUILT_IN, "settings/")  # names of what does not lie in the folder

Texts = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A policy that is not compiled yet: files of a folder by name, and what they are checked against."""

    files: Mapping[str, str]
    limits: Limits
    directory: Directory | None = None

    @classmethod
    def of_version(cls, texts: Mapping[str, str], directory: Directory | None = None) -> Draft:
        """A version that was kept."""
        files = {name: text for name, text in texts.items() if name != LIMITS}
        return cls(files=files, limits=limits_of(texts), directory=directory)

    def compile(self) -> Policy:
        """The policy; raises ConfigFaults."""
        return load_policy_texts(self.files, self.limits, self.directory)


def texts_of(policy: Policy, limits: Limits) -> Texts:
    """Everything that a compiled policy was made of, by name, as it is kept."""
    return dict(policy.texts) | {LIMITS: json.dumps(asdict(limits), sort_keys=True)}


def read_own(folder: Path | None) -> Texts:
    """The files of a policy folder, right or wrong; raises ConfigFaults when they cannot be read."""
    if folder is None:
        return {}
    root = folder if folder.is_dir() else folder.parent
    texts: Texts = {}
    faults: list[Fault] = []
    for path, name in policy_files(folder):
        try:
            if path.stat().st_size > MAX_OCTETS:
                faults.append(Fault(file=name, message=f"is larger than {MAX_OCTETS} octets"))
                continue
            texts[path.relative_to(root).as_posix()] = path.read_text("utf-8-sig")
        except OSError as e:
            faults.append(Fault(file=name, message=f"cannot be read: {e.strerror or e}"))
        except UnicodeDecodeError:
            faults.append(Fault(file=name, message="is not UTF-8"))
    if faults:
        raise ConfigFaults(faults)
    return texts


def compile_version(texts: Mapping[str, str], directory: Directory | None = None) -> Policy:
    """The policy of a version that was kept; raises ConfigFaults."""
    return Draft.of_version(texts, directory).compile()


def limits_of(texts: Mapping[str, str]) -> Limits:
    """What ``settings`` stood for."""
    try:
        return Limits(**{key: int(value) for key, value in json.loads(texts[LIMITS]).items()})
    except (KeyError, ValueError, TypeError, AttributeError):
        return Limits()


def own_files(texts: Mapping[str, str]) -> Texts:
    """Those texts that lie in the folder."""
    return {name: text for name, text in texts.items() if not name.startswith(NOT_OWN)}


def good_name(name: str) -> bool:
    """Whether a file of a policy may be called so: a path inside the folder that the loader reads."""
    path = PurePosixPath(name)
    plain = all(part not in ("..", ".") and not part.startswith((".", "_")) for part in path.parts)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and plain
        and path.suffix in (".yaml", ".yml")
        and not name.startswith(NOT_OWN)
        and path.parts[0] != EXAMPLES
        and "\\" not in name
        and "\0" not in name
    )


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Make the policy files of a folder these and no others; what is no policy file stays. Raises OSError.

    Each file is replaced whole. Names that :func:`good_name` refuses raise ValueError.
    """
    for name in files:
        if not good_name(name):
            raise ValueError(f"{name!r} is no name of a policy file")
    if folder.is_file():
        if len(files) != 1:
            raise ValueError(
                f"{folder} is one file, and this version has {len(files)}: make policy.path a folder"
            )
        _write(folder, next(iter(files.values())))
        return
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(ConfigFaults):
        for path, _ in policy_files(folder):
            if path.relative_to(folder).as_posix() not in files:
                path.unlink()
    for name, text in files.items():
        _write(folder / name, text)


def _write(path: Path, text: str) -> None:
    octets = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == octets:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            out.write(octets)
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def unified(old: Mapping[str, str], new: Mapping[str, str], names: tuple[str, str]) -> Iterator[str]:
    """The difference of two versions, file by file, as lines that ``patch`` and people read."""
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        yield from difflib.unified_diff(
            [] if before is None else before.splitlines(),
            [] if after is None else after.splitlines(),
            "/dev/null" if before is None else f"{names[0]}/{name}",
            "/dev/null" if after is None else f"{names[1]}/{name}",
            lineterm="",
        )
