"""Certificates of a test authority, as files, in the shape that servers want them (PEM)."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from tests.servers.dovecot import Tls


class Authority:
    """A certificate authority that lives as long as its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, *names: str) -> Tls:
        """A certificate for host names or addresses, ready for Postfix, Dovecot and :meth:`context`."""
        leaf = self._ca.issue_cert(*names)
        stem = names[0].replace("*", "_")
        certificate, key = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        certificate.unlink(missing_ok=True)
        for pem in leaf.cert_chain_pems:
            pem.write_to_path(str(certificate), append=True)
        leaf.private_key_pem.write_to_path(str(key))
        return Tls(certificate=certificate, key=key, authority=self.file)

    def context(self, *names: str) -> ssl.SSLContext:
        """A server's context for those names."""
        tls = self.issue(*names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        return context

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.file))
