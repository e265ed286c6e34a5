"""Repeats, deadlines, and what a broken gateway's answers are taken for."""

import asyncio

import httpx
import pytest

from swarm.errors import (
    ClientError,
    GatewayFailed,
    NotFound,
    NotReachable,
    Refused,
    SwarmClosed,
    TooManyRequests,
    Unavailable,
)
from swarm.http import Call, Credentials, Gateway, Pause
from tests.unit.swarm.gateways import answering

GET = Call(method="GET", path="/x")
DOWN = httpx.Response(503, headers={"Retry-After": "0"}, json={"detail": "Not now."})
GONE = httpx.ConnectError("refused")
GOOD = httpx.Response(200, content=b"good")


def gateway(transport: httpx.AsyncBaseTransport, timeout_s: float = 5.0) -> Gateway:
    return Gateway(
        "http://gateway.test/", Credentials(token="t"), timeout_s=timeout_s, transport=transport
    )


LOST = httpx.Response(500, text="Internal Server Error")
"""What Ray Serve's proxy answers when the gateway behind it was killed."""
NOT_YET = httpx.Response(404, text="Path '/x' not found. Ping http://.../-/routes for routes.")
"""And before it knows of a gateway."""


@pytest.mark.parametrize("trouble", [DOWN, GONE, LOST, NOT_YET, httpx.ReadTimeout("slow")])
async def test_a_call_that_does_no_harm_is_repeated(trouble: httpx.Response | Exception) -> None:
    assert await gateway(answering(trouble, trouble, GOOD)).call(GET) == b"good"


async def test_a_call_that_might_do_harm_is_repeated_only_where_it_was_not_done() -> None:
    not_done = httpx.Response(503, json={"detail": "Not now.", "not_done": True})
    assert await gateway(answering(not_done, GOOD)).call(GET, repeatable=False) == b"good"
    with pytest.raises(Unavailable):  # it may stand in the log all the same
        await gateway(answering(DOWN, GOOD)).call(GET, repeatable=False)
    with pytest.raises(NotReachable):
        await gateway(answering(GONE, GOOD)).call(GET, repeatable=False)
    with pytest.raises(Unavailable):
        await gateway(answering(httpx.Response(503), GOOD)).call(GET, repeatable=False)
    with pytest.raises(Unavailable):
        await gateway(answering(LOST, GOOD)).call(GET, repeatable=False)
    with pytest.raises(Unavailable):
        await gateway(answering(NOT_YET, GOOD)).call(GET, repeatable=False)


@pytest.mark.parametrize("status", [400, 404, 409, 422, 429, 500, 502, 504])
async def test_other_refusals_are_not_repeated(status: int) -> None:
    refusal = httpx.Response(status, json={"detail": "No."})
    with pytest.raises(ClientError):
        await gateway(answering(refusal, GOOD)).call(GET)


async def test_repeats_end_with_the_last_reason() -> None:
    with pytest.raises(Unavailable, match="Not now"):
        await gateway(answering(DOWN), timeout_s=0.05).call(GET)
    with pytest.raises(NotReachable, match=r"at http://gateway\.test"):
        await gateway(answering(GONE), timeout_s=0.05).call(GET)


async def test_a_gateway_that_hangs_is_given_up() -> None:
    class Hanging(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError(request)

    with pytest.raises(NotReachable, match="in time"):
        await gateway(Hanging(), timeout_s=0.05).call(GET)
    with pytest.raises(NotReachable, match="in time"):
        await gateway(Hanging(), timeout_s=0.05).authenticate()


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (httpx.Response(418), Refused, "418"),
        (httpx.Response(422, content=b"<html>"), Refused, "422"),
        (httpx.Response(404, json={"detail": "No such run."}), NotFound, "No such run"),
        (httpx.Response(404, text="nobody here"), Unavailable, "404"),
        (httpx.Response(429, json={"detail": "Slowly."}), TooManyRequests, "Slowly."),
        (httpx.Response(500, json={"detail": "Oh."}), GatewayFailed, "Oh."),
        (httpx.Response(500, text="Internal Server Error"), Unavailable, "500"),
        (httpx.Response(302, headers={"Location": "http://evil.test"}), GatewayFailed, "302"),
        (httpx.Response(400, json={"detail": 3}), Refused, "400"),
    ],
)
async def test_an_answer_becomes_the_error_it_means(
    answer: httpx.Response, kind: type[ClientError], message: str
) -> None:
    with pytest.raises(kind, match=message) as raised:
        await gateway(answering(answer), timeout_s=0.05).call(GET)  # one of them is repeated
    assert type(raised.value) is kind


async def test_a_streams_break_becomes_an_error_of_ours() -> None:
    class Breaking(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
            yield b"a"
            raise httpx.RemoteProtocolError("peer closed connection")

    there = gateway(answering(lambda _: httpx.Response(200, stream=Breaking())))
    with pytest.raises(NotReachable):
        async with there.stream(GET) as response:
            _ = [chunk async for chunk in response.aiter_bytes()]


async def test_a_refused_stream_is_an_error_with_its_reason() -> None:
    with pytest.raises(Refused, match="Never"):
        async with gateway(answering(httpx.Response(403, json={"detail": "Never."}))).stream(GET):
            pass


async def test_a_closed_gateway_is_not_asked() -> None:
    there = gateway(answering(GOOD))
    await there.aclose()
    with pytest.raises(SwarmClosed):
        await there.call(GET)


def test_nothing_secret_is_in_the_repr() -> None:
    shown = repr(Credentials(username="uma", password="sesame", token="t0ken"))
    assert "sesame" not in shown
    assert "t0ken" not in shown


async def test_patience_ends_with_the_error_and_begins_anew_with_an_answer() -> None:
    pause, error = Pause(patience_s=0.0), NotReachable()
    with pytest.raises(NotReachable):
        await pause.after(error)
    pause = Pause(patience_s=5.0)
    await pause.after(error)
    pause.answered()
    await pause.after(error)
