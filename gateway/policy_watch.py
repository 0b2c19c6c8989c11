"""The policy in force in a running gateway: read from its folder, kept by version, replaced whole or not.

A folder that changed is read again (SIGHUP, a file that changed and has been quiet since the last look,
``wasl policy reload``). What is broken changes nothing: the last good policy stays in force, its faults are
kept for the dashboard, ``/healthz`` and ``wasl check`` (promise 7). What is good is stored under its digest
and comes into force, or, where the settings ask for a second person, is proposed and waits.

At a start with a broken folder the version that was last in force is taken from the record; without one
:class:`policies.faults.ConfigFaults` is raised. Acts that make no sense raise
:class:`tracker.policy_store.PolicyStoreError`, a folder that cannot be written :class:`Trouble`, a database
that is away its own error; nothing has changed then. All methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import pwd
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.beside_mail import beside_mail
from gateway.trouble import Trouble
from policies.chain import Policy
from policies.directory import Directory
from policies.faults import ConfigFaults, Fault
from policies.folder import Stamp, stamp
from policies.load import EXAMPLES, Limits, load_policy, load_policy_texts, policy_files
from policies.versions import Draft, Texts, compile_version, own_files, read_own, texts_of, write_files
from tracker import policy_store
from tracker.model import now_us
from tracker.policy_store import Activation, PolicyStoreError, Standing
from tracker.record import Record
from tracker.store import Connection

_log = logging.getLogger("wasl.policy")

_RESTORING = "policy-restoring"  # in the data directory: the digest whose files are being written


class PolicyWatch:
    """Keeps :attr:`current`. ``faults`` are those of the folder as it is now."""

    def __init__(
        self,
        record: Record,
        folder: Path | None,
        limits: Limits,
        directory: Directory | None,
        *,
        second_person: bool = False,
        data_dir: Path | None = None,
    ) -> None:
        """Takes the folder's policy or the last good one; raises ConfigFaults when there is neither."""
        self.folder = folder
        self.faults: tuple[Fault, ...] = ()
        self.waiting = ""  # digest of the folder's version while it waits for a second person
        self._record = record
        self._limits = limits
        self._directory = directory
        self._second_person = second_person
        self._strange = ""  # a digest that another program put in force
        self._mark = data_dir / _RESTORING if data_dir is not None else None
        self._lock = threading.RLock()
        self._candidate: tuple[Policy, Texts] | None = None  # what the folder holds, compiled
        self._stamp = self._seen = self._look()
        self.current: Policy
        self.files: Texts  # that ``current`` was made from
        with self._lock:
            self._finish_restoring()
            self._open()

    def _open(self) -> None:
        with self._record.read() as conn:
            last = policy_store.active(conn)
            files = policy_store.files_of(conn, last.digest) if last is not None else None
        kept: Policy | None = None
        if last is not None and files is not None:
            kept = _again(last.digest, files)
        try:
            texts, policy = self._compile()
        except ConfigFaults as e:
            if kept is None or files is None:
                raise
            self.faults, self.current, self.files = e.faults, kept, files
            for fault in e.faults:
                _log.error("%s", fault)
            _log.error("policy version %s, the last good one, is in force", kept.version)
            return
        self.current, self.files = policy, texts
        if kept is not None and files is not None and self._second_person:
            self.current, self.files = kept, files
        self._settle(texts, policy, by=self._author(), note="", at_once=kept is None)

    # Looking.

    def changed(self) -> bool:
        """True when the folder is not as it was read, and has been quiet since the last call."""
        seen, self._seen = self._seen, self._look()
        return self._seen == seen and self._seen != self._stamp

    def _look(self) -> Stamp:
        return stamp(self.folder, (EXAMPLES,)) if self.folder is not None else ()

    def _author(self) -> str:
        """Who wrote the newest file of the folder, as the file system knows."""
        if self.folder is None:
            return "wasl"
        try:
            newest = max((file.stat() for file, _ in policy_files(self.folder)), key=lambda s: s.st_mtime_ns)
            return pwd.getpwuid(newest.st_uid).pw_name
        except (ConfigFaults, OSError, KeyError):
            return ""

    # Reading.

    def read(self, directory: Directory | None, *, by: str = "", note: str = "") -> tuple[Fault, ...]:
        """Read the folder again. Empty: it is good, and in force or proposed. Else its faults."""
        with self._lock:
            self._directory = directory
            stamp = self._look()
            try:
                texts, policy = self._compile()
            except ConfigFaults as e:
                self._stamp, self.faults = stamp, e.faults
                return self.faults
            self._settle(texts, policy, by=by or self._author(), note=note)
            self._stamp, self.faults = stamp, ()
            return ()

    def _compile(self) -> tuple[Texts, Policy]:
        with beside_mail():
            policy = load_policy(self.folder, self._limits, self._directory)
        return texts_of(policy, self._limits), policy

    def _settle(
        self, texts: Texts, policy: Policy, *, by: str, note: str, at_once: bool = False
    ) -> Activation:
        """Store a version and put it in force, or propose it."""
        digest, row_id = policy.version, self._record.ids.next()
        ask = self._second_person and not at_once and digest != self.current.version

        def keep(conn: Connection) -> Activation:
            self._keep(conn, digest, texts, by, note)
            act = policy_store.propose if ask else policy_store.activate
            return act(conn, row_id, digest, by=by, note=note, at_us=now_us())

        done = self._record.write(keep)
        self._candidate = (policy, texts)
        if done.state is Standing.PROPOSED:
            if self.waiting != digest:
                _log.warning("policy version %s of %s waits for a second person", digest, by)
            self.waiting = digest
        else:
            self._put_in_force(policy, texts, done)
        return done

    @staticmethod
    def _keep(conn: Connection, digest: str, texts: Texts, by: str, note: str) -> None:
        policy_store.store_version(conn, digest, texts, by=by, note=note, at_us=now_us())

    def _stored(self, conn: Connection, digest: str) -> tuple[Policy, Texts]:
        """A version that is to be in force: the folder's own when it is that one."""
        if self._candidate is not None and self._candidate[0].version == digest:
            return self._candidate
        texts = policy_store.files_of(conn, digest) or {}
        policy = _again(digest, texts)
        if policy is None:
            raise PolicyStoreError(f"the policy version {digest} is not one of this program")
        return policy, texts

    def _put_in_force(self, policy: Policy, texts: Texts, act: Activation) -> None:
        new = policy.version != self.current.version or bool(self.waiting)
        self.current, self.files, self.waiting = policy, texts, ""
        if new:  # said once it is true: who reads it may rely on it
            agreed = f", approved by {act.second}" if act.second else ""
            _log.info("policy version %s of %s in force%s", policy.version, act.by, agreed)

    def follow(self) -> bool:
        """Where a second person is asked: put in force what was approved elsewhere. True when it changed."""
        if not self._second_person:
            return False
        with self._lock:
            with self._record.read() as conn:
                now = policy_store.active(conn)
                if now is None or now.digest in (self.current.version, self._strange):
                    return False
                try:
                    policy, texts = self._stored(conn, now.digest)
                except PolicyStoreError:
                    self._strange = now.digest
                    return False
            self._put_in_force(policy, texts, now)
            return True

    # Acts.

    def approve(self, digest: str, *, by: str) -> Activation:
        """A second person agrees to what is proposed; it is in force on return."""
        with self._lock:
            with self._record.read() as conn:
                found = policy_store.find(conn, digest)
                policy, texts = self._stored(conn, found)
            done = self._record.write(lambda conn: policy_store.approve(conn, found, by=by, at_us=now_us()))
            self._put_in_force(policy, texts, done)
            return done

    def rollback(self, digest: str, *, by: str, note: str = "") -> Activation:
        """Write the files of a version back and put it in force.

        Where a second person is asked for it is proposed, unless it undoes the last activation. The
        version in force is written back over whatever stands in the folder: what was proposed is given up.
        """
        with self._lock:
            with self._record.read() as conn:
                found = policy_store.find(conn, digest)
                texts = policy_store.files_of(conn, found) or {}
                before = policy_store.history(conn, limit=2)
            own = own_files(texts)
            if not own:
                raise PolicyStoreError(f"{found} is of the built-in rules: leave out policy.path to use them")
            undo = len(before) == 2 and before[1].digest == found
            return self._replace(own, by, note or f"rollback to {found}", at_once=undo)

    def write(
        self,
        files: Mapping[str, str | None],
        *,
        by: str,
        note: str = "",
        look: Callable[[Mapping[str, str]], None] = lambda standing: None,
    ) -> Activation:
        """Change files of the folder (None: remove) as an editor does, and put the result in force.

        ``look`` is shown the files as they stand, before anything is written, and may raise. Raises
        ConfigFaults when the result would be broken; nothing is written then.
        """
        with self._lock:
            own = self.on_disk()
            look(own)
            for name, text in files.items():
                if text is None:
                    own.pop(name, None)
                else:
                    own[name] = text
            return self._replace(own, by, note, at_once=False)

    def on_disk(self) -> Texts:
        """The files of the folder as they stand, by name; raises ConfigFaults when they cannot be read."""
        return read_own(self.folder)

    def _standing(self) -> Texts | None:
        with contextlib.suppress(ConfigFaults):
            return self.on_disk()
        return None

    def draft(self, own: Mapping[str, str]) -> Draft:
        """These files of the folder, for a trial: its faults name them as they are called here."""
        return Draft(files=own, limits=self._limits, directory=self._directory)

    def check(self, own: Mapping[str, str]) -> Policy:
        """The policy that these files of the folder would be; raises ConfigFaults."""
        if not own:
            raise PolicyStoreError("a policy has at least one file of rules")
        label = f"{self.folder.name}/" if self.folder is not None and self.folder.is_dir() else ""
        with beside_mail():
            return load_policy_texts(own, self._limits, self._directory, label)

    def _replace(self, own: Mapping[str, str], by: str, note: str, *, at_once: bool) -> Activation:
        if self.folder is None:
            raise PolicyStoreError("the rules are the built-in ones: set policy.path to a folder")
        policy, before = self.check(own), self._standing()  # what is broken is not written
        texts = texts_of(policy, self._limits)
        self._record.write(lambda conn: self._keep(conn, policy.version, texts, by, note))
        try:
            if self._mark is not None:
                self._mark.write_text(policy.version)
            write_files(self.folder, own)
        except OSError as e:
            if before is not None:
                with contextlib.suppress(OSError, ValueError):
                    write_files(self.folder, before)  # half of a version is none
            raise Trouble(f"{e.filename or self.folder}: {e.strerror or e} for the gateway's user") from None
        finally:
            if self._mark is not None:
                self._mark.unlink(missing_ok=True)
        stamp = self._look()
        done = self._settle(texts, policy, by=by, note=note, at_once=at_once)
        self._stamp, self.faults = stamp, ()
        return done

    def _finish_restoring(self) -> None:
        """A life that ended while it wrote files left some of either version."""
        if self._mark is None or self.folder is None or not self._mark.exists():
            return
        digest = self._mark.read_text().strip()
        with self._record.read() as conn:
            texts = policy_store.files_of(conn, digest)
        if texts is not None:
            _log.warning("the files of policy version %s were not all written: they are now", digest)
            write_files(self.folder, own_files(texts))
        self._mark.unlink(missing_ok=True)
        self._stamp = self._seen = self._look()


def _again(digest: str, files: Mapping[str, str]) -> Policy | None:
    """A version that was kept, compiled; None when this program makes another one of it."""
    try:
        with beside_mail():
            policy = compile_version(files)
    except ConfigFaults as e:
        _log.warning("policy version %s cannot be used by this program: %s", digest, e.faults[0])
        return None
    if policy.version != digest:
        _log.warning("policy version %s is another one (%s) to this program", digest, policy.version)
        return None
    return policy
