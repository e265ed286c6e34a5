"""The outermost layer of the gateway: request ids, the access log, and no leaked faults."""

import re
import secrets
import time
from collections.abc import Mapping
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bus.errors import SwarmError
from serve.problems import refusal_of, response_for

log = structlog.get_logger()

REQUEST_ID: Final = "x-request-id"
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SECURITY_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}
"""What the OWASP secure headers project asks of an API that no page belongs to."""
_ONLY_TLS: Final = {"strict-transport-security": "max-age=31536000"}
"""RFC 6797: whoever came by TLS once is not to come without for a year."""


class RequestContext:
    """Gives each request an id, logs its end, and turns every error into a problem answer.

    An id that the caller sent is kept if it is a plain token, so that a trace can be
    followed across services. Bodies, queries and headers are never logged.

    Args:
        app: what is inside.
        echo_id: send the id back in a header; not where a proxy in front does.
        tls: people reach the gateway by TLS only.
    """

    def __init__(self, app: ASGIApp, *, echo_id: bool, tls: bool = False) -> None:
        self._app = app
        self._echo_id = echo_id
        self._headers = {**_SECURITY_HEADERS, **(_ONLY_TLS if tls else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; websockets are closed."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get(REQUEST_ID))
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id, self._headers, echo_id=self._echo_id)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, answer)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        started = time.monotonic()
        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            log.info("request.abandoned")
        except Exception as error:  # noqa: BLE001 - the last line: nobody else would answer
            await self._refuse(error, scope, receive, answer)
        finally:
            log.info(
                "request.finished",
                method=scope["method"],
                path=scope["path"][:200],
                status=answer.status,
                duration_ms=round((time.monotonic() - started) * 1000),
            )

    async def _refuse(
        self, error: Exception, scope: Scope, receive: Receive, answer: "_Answer"
    ) -> None:
        refusal = refusal_of(error)
        if refusal is None:
            log.error("request.failed", error=type(error).__name__, exc_info=error)
        elif isinstance(error, SwarmError) and refusal.retryable:
            log.warning("request.unavailable", code=error.code, reason=str(error))
        if answer.status is None:
            await response_for(refusal, answer.request_id)(scope, receive, answer)
        elif refusal is None:
            raise error  # the answer has begun: break it off, so that nobody takes it as whole


class _Answer:
    """Passes an answer on, with the headers that every one has, and notes its status."""

    def __init__(
        self, send: Send, request_id: str, headers: Mapping[str, str], *, echo_id: bool
    ) -> None:
        self._send = send
        self._headers = headers
        self._echo_id = echo_id
        self.request_id = request_id
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            headers = MutableHeaders(scope=message)
            if self._echo_id:
                headers[REQUEST_ID] = self.request_id
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        await self._send(message)


async def answer_problem(request: Request, error: Exception) -> Response:
    """An exception handler for what FastAPI itself refuses."""
    return response_for(refusal_of(error), request.state.request_id)


def _request_id(given: str | None) -> str:
    if given is not None and _ACCEPTABLE_ID.match(given):
        return given
    return secrets.token_hex(8)
