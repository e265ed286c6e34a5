"""Bounds on what a request may send, enforced while it is read."""

import asyncio
import re

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import MalformedRequest, NotJson, RequestTooLarge, RequestTooSlow

_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_JSON = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?\Z', re.IGNORECASE)


class BodyLimit:
    """Reads a body before anything else looks at it: JSON by its header, whole, and not too long.

    No body at all will do as well, where the route needs none.

    A Content-Length over the limit is refused without reading; a body that has none, or
    says less than it sends, is refused at the first byte over.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, timeout_s: float) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body of a request, then pass it on in one piece."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_headers(scope["method"], headers)
        body = await self._read(receive)
        if body and scope["method"] in _METHODS_WITH_BODY and not _is_json(headers):
            raise NotJson
        await self._app(scope, _replay(body, receive), send)

    def _check_headers(self, method: str, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise MalformedRequest("Content-Length is not a number.")
        if len(length) > len(str(self._limit_bytes)) or int(length) > self._limit_bytes:
            raise self._too_large()
        says_body = int(length) > 0 or "content-type" in headers
        if says_body and method in _METHODS_WITH_BODY and not _is_json(headers):
            raise NotJson

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    body += message.get("body", b"")
                    if len(body) > self._limit_bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise RequestTooSlow(
                f"The body did not arrive within {self._timeout_s:g} s."
            ) from error

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(
            f"The body is over the limit of {self._limit_bytes} bytes.",
            headers={"Connection": "close"},
        )


def _is_json(headers: Headers) -> bool:
    return _JSON.match(headers.get("content-type", "")) is not None


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that hands out the body first, then whatever comes, such as a disconnect."""
    handed_out = False

    async def replayed() -> Message:
        nonlocal handed_out
        if handed_out:
            return await receive()
        handed_out = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
