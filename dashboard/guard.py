"""What holds for every request and answer, whatever page it is: headers, origin, size.

- Every answer carries a Content-Security-Policy without ``unsafe-inline``, nosniff, no framing.
- A request that is not a reading one must come from our own pages: ``Sec-Fetch-Site: same-origin``,
  or an ``Origin`` that is ours where a client does not send it. Neither: refused.
- A body is cut off after ``MAX_BODY`` octets with 413; our forms need a few hundred. Under
  ``/policy/``, where a body is read only after its sender is known, files may be larger: ``MAX_FILE``.

What no handler foresaw is answered here too, by ``on_fault``. Plain ASGI, so that streams pass
through untouched.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 32 << 10
MAX_FILE = 6 << 20

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """The middleware; ``own_origin`` is that of the settings' base URL."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        base_url: str,
        secure: bool,
        on_fault: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self.app = app
        self.on_fault = on_fault
        parts = urlsplit(base_url)
        self.own_origin = f"{parts.scheme}://{parts.netloc}".lower()
        self.secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})["foreign"] = self.is_foreign(scope)
        taken, started = 0, False
        most = MAX_FILE if scope["path"].startswith("/policy/") else MAX_BODY

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413)
            return message

        async def guarded(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                put_headers(MutableHeaders(scope=message), scope["path"], self.secure)
            await send(message)

        try:
            await self.app(scope, limited, guarded)
        except Exception as error:
            if started:
                raise  # the answer is half out: the server can only close
            answer = await self.on_fault(Request(scope, limited), error)
            await answer(scope, limited, guarded)

    def is_foreign(self, scope: Scope) -> bool:
        """The request would change something and does not come from our own pages."""
        if scope["method"] in _READING:
            return False
        headers = Headers(scope=scope)
        site = headers.get("sec-fetch-site")
        origin = headers.get("origin")
        if site is not None and site != "same-origin":
            return True
        if origin is None:
            return site is None
        # Behind a proxy the scheme here is not the browser's: the host decides.
        host = urlsplit(origin.lower()).netloc
        return origin.lower() != self.own_origin and host != headers.get("host", "").lower()


def put_headers(headers: MutableHeaders, path: str, secure: bool) -> None:
    """What every answer carries."""
    headers["Content-Security-Policy"] = CSP
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=(), interest-cohort=()"
    if not path.startswith("/static/"):
        headers.setdefault("Cache-Control", "no-store")
    if secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
