"""The section of our own checks of what comes in, and of the ARC seal on what goes out.

The name servers that are asked are those of ``[dns]``. Fails as every section does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from gateway.setting_values import Duration
from gateway.settings_section import Section


class Authentication(Section):
    """Our own checks of what comes in: SPF, DKIM, DMARC and ARC, by the name servers of [dns]."""

    spf: bool = True
    """Ask whether the sender's domain lets the peer send for it."""
    dkim: bool = True
    """Verify DKIM signatures."""
    dmarc: bool = True
    """Ask whether one of the two speaks for the author's domain."""
    arc: bool = True
    """Verify ARC chains."""
    own_domains: bool = False
    """SPF and DMARC also where an agency's server sends under its own domains, which it has proved."""
    signatures: Annotated[int, Field(ge=1, le=50, strict=True)] = 5
    """DKIM signatures of one letter that are verified, those of the author's domain first."""
    timeout: Duration = timedelta(seconds=2)
    """Time for all names that one letter asks for; what is not known by then is `temperror`."""
    remembered: Annotated[int, Field(ge=100, le=1_000_000, strict=True)] = 10_000
    """Answers of name servers that are remembered, for their time to live."""
    seal: bool = True
    """Put an ARC set of the gateway's own RSA key on letters that it alters and that came authenticated."""

    @model_validator(mode="after")
    def _some_time(self) -> Authentication:
        if not timedelta() < self.timeout <= timedelta(seconds=30):
            raise ValueError("timeout must be between 1s and 30s")
        return self
