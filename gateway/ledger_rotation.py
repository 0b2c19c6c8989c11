"""A new key for the ledger: ``wasl keys rotate-ledger``.

The new key signs from then on; the old public key stays in ``ledger.keys`` beside the private one, so that
everything signed before is verified as before. The head of the log at the change bears both signatures
(LEDGER.md 4). Each step can be the last one: public keys first, then the checkpoint, then the private key in
one step; a key that never came to sign stands in ``ledger.keys`` and does no harm.

The command line writes the files, with owner and mode of the old key; a running gateway, which need not be
able to write there, only reads the new key and takes over (:func:`take_over`). Raises OSError where files
cannot be written, and what the record raises; the old key goes on signing then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from gateway.keys import replace_like, sync_folder
from gateway.settings import Settings
from tracker.ledger import LedgerKey, keys_file
from tracker.record import Record


def rotate(settings: Settings, take: Callable[[Path], None]) -> tuple[LedgerKey, Path]:
    """Make a new key and have it taken by ``take``, which is given its file.

    Returns the key, and where the old private key lies now.
    """
    path = settings.ledger.key
    old = LedgerKey.load(settings.ledger_origin, path)
    new = LedgerKey.make(settings.ledger_origin).after(old)
    like = path.stat()
    head = f"# Public keys of {new.origin}, the newest first: all verify, the first one signs.\n"
    listed = "".join(f"{vkey}\n" for vkey in new.vkeys)
    replace_like(keys_file(path), (head + listed).encode(), 0o644, like)
    fresh = path.with_name(f".{path.name}.new")
    replace_like(fresh, new.pem(), like.st_mode & 0o777, like)
    take(fresh)
    kept = path.with_name(f"{path.stem}-{old.vkey.keyid.hex()}{path.suffix}")
    kept.unlink(missing_ok=True)
    os.link(path, kept)
    fresh.replace(path)
    sync_folder(path.parent)
    return new, kept


def take_over(record: Record, settings: Settings, fresh: Path) -> LedgerKey:
    """In the process that signs: the log's head is signed by both keys, then the new one signs alone."""
    new = LedgerKey.from_pem(settings.ledger_origin, fresh.read_bytes()).after(record.ledger.key)
    record.hand_ledger_to(new)
    record.sign_with(new)
    return new
