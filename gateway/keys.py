"""Making DKIM keys and the DNS records that publish them.

STANDARDS
    RFC 6376 §3.6.1 and RFC 8463 §4 (key records), RFC 1035 §5.1 (zone-file form; a TXT string holds
    255 octets at most, RFC 1035 §3.3.14), RFC 8301 (key sizes).

Private keys are PKCS #8 PEM files without a pass phrase, readable by their owner only (0600), made
with O_EXCL: an existing key is never overwritten.

HOW IT FAILS
    FileExistsError when a key of that name is there, any other OSError as it comes;
    :class:`gateway.sign.SigningKeyError` for a domain or selector that cannot be one.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.sign import SigningKey

RSA_BITS = 2048
TTL = 3600  # seconds


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A signing key and the file that holds its private half."""

    path: Path
    key: SigningKey

    @property
    def dns_record(self) -> str:
        """The record to publish, in zone-file form."""
        return dns_record(self.key)


def make_keys(folder: Path, domain: str, selector: str) -> tuple[KeyFile, KeyFile]:
    """An RSA-2048 and an Ed25519 key for a domain, selectors ``SELECTOR-rsa`` and ``SELECTOR-ed``.

    The files are ``FOLDER/DOMAIN/SELECTOR-….pem``, on stable storage when this returns. Raises
    FileExistsError if either is there already (then neither is made), OSError, SigningKeyError.
    """
    rsa_key = SigningKey.of(
        rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS),
        domain=domain,
        selector=f"{selector}-rsa",
    )
    ed_key = SigningKey.of(Ed25519PrivateKey.generate(), domain=domain, selector=f"{selector}-ed")
    home = folder / rsa_key.domain
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = tuple(KeyFile(home / f"{key.selector}.pem", key) for key in (rsa_key, ed_key))
    for file in files:
        if file.path.exists():
            raise FileExistsError(f"{file.path} exists already")
    for file in files:
        _write(file.path, pem(file.key))
    sync_folder(home)
    return files[0], files[1]


def pem(key: SigningKey) -> bytes:
    """The private key as PKCS #8 PEM."""
    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def too_open(path: Path) -> bool:
    """True when others than the owner may read or write the file."""
    return bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def record_value(key: SigningKey) -> str:
    """The key record as one string: what the TXT record says when its strings are joined."""
    public = key.private.public_key()
    if isinstance(key.private, RSAPrivateKey):
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; h=sha256; p={base64.b64encode(octets).decode()}"
    octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)  # RFC 8463 §4: the bare 32 octets
    return f"v=DKIM1; k=ed25519; p={base64.b64encode(octets).decode()}"


def record_name(key: SigningKey) -> str:
    """The name under which the record is asked for, with the last dot."""
    return f"{key.selector}._domainkey.{key.domain}."


def dns_record(key: SigningKey) -> str:
    """The TXT record in zone-file form, one line if it fits one string, else in parentheses."""
    value = record_value(key)
    strings = [value[i : i + 255] for i in range(0, len(value), 255)]
    head = f"{record_name(key)} {TTL} IN TXT"
    if len(strings) == 1:
        return f'{head} "{strings[0]}"'
    return "\n".join([f"{head} (", *(f'    "{text}"' for text in strings), ")"])


def replace_like(path: Path, octets: bytes, mode: int, like: os.stat_result) -> None:
    """Write a file whole and durably, in one step, with the owner of another: who could read it still can."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as out:
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(out.fileno(), like.st_uid, like.st_gid)
        os.fchmod(out.fileno(), mode)
        out.write(octets)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)
    sync_folder(path.parent)


def _write(path: Path, octets: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
