"""The policy of a running gateway as the dashboard's pages ask for it (``dashboard.policy_desk``).

A thin side of :class:`gateway.policy_watch.PolicyWatch`: it tells whether a file is still the one that was
opened, and puts what the watch raises into the few words that the pages know. Called in worker threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from dashboard.policy_desk import FolderChange, FolderChanged, NotWritten, PolicySet, Saved, text_digest
from gateway.policy_watch import PolicyWatch
from gateway.trouble import Trouble
from policies.faults import ConfigFaults, Fault
from policies.versions import Draft
from tracker.policy_store import Activation, Standing


class PolicyPages:
    """What the pages may ask and do."""

    def __init__(self, watch: PolicyWatch, *, two_persons: bool) -> None:
        self._watch = watch
        self._two_persons = two_persons

    @property
    def editable(self) -> bool:
        return self._watch.folder is not None

    @property
    def two_persons(self) -> bool:
        return self._two_persons

    def in_force(self) -> PolicySet:
        return PolicySet(policy=self._watch.current, files=self._watch.files)

    def faults(self) -> tuple[Fault, ...]:
        return _named(self._watch.faults, ())

    def on_disk(self) -> dict[str, str]:
        if self._watch.folder is None:
            return {}
        try:
            return dict(self._watch.on_disk())
        except ConfigFaults as e:
            raise OSError(str(e.faults[0])) from None

    def draft(self, files: Mapping[str, str], /) -> Draft:
        return self._watch.draft(files)

    def save(self, change: FolderChange, /, *, by: str, note: str) -> Saved:
        def look(standing: Mapping[str, str]) -> None:
            others = tuple(
                name for name, opened in change.opened.items() if text_digest(standing.get(name)) != opened
            )
            if others:
                raise FolderChanged(others)

        try:
            return _saved(self._watch.write(change.files, by=by, note=note, look=look))
        except ConfigFaults as e:
            raise ConfigFaults(_named(e.faults, change.files)) from None
        except (Trouble, OSError) as e:
            raise NotWritten(str(e)) from None

    def rollback(self, version: str, /, *, by: str, note: str) -> Saved:
        try:
            return _saved(self._watch.rollback(version, by=by, note=note))
        except (Trouble, OSError) as e:
            raise NotWritten(str(e)) from None

    def approve(self, version: str, /, *, by: str) -> None:
        self._watch.approve(version, by=by)


def _saved(done: Activation) -> Saved:
    return Saved(version=done.digest, proposed=done.state is Standing.PROPOSED)


def _named(faults: Iterable[Fault], names: Iterable[str]) -> tuple[Fault, ...]:
    """Faults name a file with its folder; the pages call it by its path in the folder."""
    known = set(names)
    out = []
    for fault in faults:
        _folder, _, tail = fault.file.partition("/")
        bare = bool(tail) and fault.file not in known and not fault.file.startswith("default/")
        out.append(replace(fault, file=tail) if bare else fault)
    return tuple(out)
