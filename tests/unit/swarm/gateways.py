"""Gateways to talk to without a socket: the real application, whole or behind a bad line."""

from collections.abc import AsyncIterator, Callable, Iterable

import httpx

from serve.app import create_app
from serve.ports import Limits
from swarm.client import AsyncSwarm
from tests.unit.serve.fakes import BASE_URL, PASSWORD, Fakes

Answer = Callable[[httpx.Request], httpx.Response]


class Bytes(httpx.AsyncByteStream):
    """A body that comes in pieces of a given size, and breaks off if told to."""

    def __init__(self, body: bytes, *, piece: int, breaks: bool) -> None:
        self._body, self._piece, self._breaks = body, piece, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), self._piece):
            yield self._body[start : start + self._piece]
        if self._breaks:
            raise httpx.ReadError("the line went dead")


class BadLine(httpx.AsyncBaseTransport):
    """Cuts each event stream after the next number of bytes, as long as there are numbers."""

    def __init__(self, fakes: Fakes, cuts: Iterable[int], *, piece: int = 7) -> None:
        self._inner = httpx.ASGITransport(create_app(fakes.parts()))
        self._cuts = iter(cuts)
        self._piece = piece
        self.streams = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if not request.url.path.endswith("/events"):
            return response
        self.streams += 1
        body = await response.aread()
        cut = next(self._cuts, None)
        stream = Bytes(body[:cut], piece=self._piece, breaks=cut is not None)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)


class AwayLine(httpx.AsyncBaseTransport):
    """Nobody is there for the next requests of paths that end so, so many of them.

    By turns nobody listens, and somebody listens who does not know of a gateway.
    """

    def __init__(self, fakes: Fakes, away: int, *, of: str = "/events") -> None:
        self._inner = httpx.ASGITransport(create_app(fakes.parts()))
        self.away = away
        self._of = of

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(self._of) and self.away:
            self.away -= 1
            if self.away % 2:
                return httpx.Response(404, text=f"Path {request.url.path!r} not found.")
            raise httpx.ConnectError("nobody is there")
        return await self._inner.handle_async_request(request)


async def connected(
    fakes: Fakes,
    transport: httpx.AsyncBaseTransport | None = None,
    limits: Limits | None = None,
    *,
    name: str = "uma",
) -> AsyncSwarm:
    """The SDK, logged in as that user."""
    return await AsyncSwarm.connect(
        BASE_URL,
        username=name,
        password=PASSWORD,
        transport=transport or httpx.ASGITransport(create_app(fakes.parts(limits))),
    )


def answering(*answers: Answer | httpx.Response | Exception) -> httpx.MockTransport:
    """A gateway that gives these answers in turn, the last one for ever."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(chosen, Exception):
            raise chosen
        return chosen(request) if callable(chosen) else _fresh(chosen)

    return httpx.MockTransport(answer)


def _fresh(response: httpx.Response) -> httpx.Response:
    """A response may be read once; this one may be given again."""
    return httpx.Response(response.status_code, headers=response.headers, content=response.content)
