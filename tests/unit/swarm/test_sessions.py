"""How the SDK stays logged in, and how it leaves."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from serve.app import create_app
from swarm import AsyncSwarm
from swarm.errors import NotAllowed, NotAuthenticated
from tests.unit.serve.fakes import BASE_URL, NOW, Fakes, submit
from tests.unit.swarm.gateways import connected


class Watched(httpx.AsyncBaseTransport):
    """Notes what is asked for below /auth, and loses answers when told to."""

    def __init__(self, fakes: Fakes) -> None:
        self._inner = httpx.ASGITransport(create_app(fakes.parts()))
        self.asked: list[str] = []
        self.lose_answer_of = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/auth"):
            self.asked.append(path.removeprefix("/auth/"))
        response = await self._inner.handle_async_request(request)
        if path == self.lose_answer_of:
            self.lose_answer_of = ""
            raise httpx.ReadError("the line went dead")
        return response


async def test_an_expired_token_is_refreshed_and_no_password_is_sent_again() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    line = Watched(fakes)
    async with await connected(fakes, line) as swarm:
        for days in (20, 40, 40):
            fakes.now = NOW + timedelta(days=days)
            assert (await swarm.run("r1").status()).id == "r1"
            fakes.seconds += 10
    assert line.asked == ["login", "refresh", "refresh", "logout"]


async def test_calls_side_by_side_refresh_once_and_set_off_no_alarm() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    line = Watched(fakes)
    async with await connected(fakes, line) as swarm:
        fakes.now = fakes.now.replace(day=20)
        await asyncio.gather(*(swarm.run("r1").status() for _ in range(8)))
    assert line.asked.count("refresh") == 1
    await fakes.events.flush()
    assert not fakes.record.of_kind("token.reused")


async def test_a_refresh_whose_answer_was_lost_ends_the_session_and_the_password_begins_one() -> (
    None
):
    fakes = Fakes()
    await submit(fakes.log)
    line = Watched(fakes)
    async with await connected(fakes, line) as swarm:
        fakes.now = fakes.now.replace(day=20)
        line.lose_answer_of = "/auth/refresh"
        assert (await swarm.run("r1").status()).id == "r1"
    assert line.asked == ["login", "refresh", "refresh", "login", "logout"]
    await fakes.events.flush()
    assert len(fakes.record.of_kind("token.reused")) == 1


async def test_closing_ends_the_session_that_was_begun() -> None:
    fakes = Fakes()
    swarm = await connected(fakes)
    await swarm.aclose()
    assert list(fakes.sessions.ended.values()) == ["logout"]
    await swarm.aclose()


async def test_closing_does_not_wait_for_a_gateway_that_is_gone() -> None:
    fakes = Fakes()
    line = Watched(fakes)
    swarm = await connected(fakes, line)
    line.lose_answer_of = "/auth/logout"
    await swarm.aclose()


async def test_a_token_of_somebody_elses_session_is_left_alone() -> None:
    fakes = Fakes()
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    async with await AsyncSwarm.connect(BASE_URL, token=fakes.token(), transport=transport):
        pass
    assert fakes.sessions.ended == {}


async def test_an_api_key_will_do_for_its_scopes() -> None:
    fakes = Fakes()
    await submit(fakes.log)
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    key = fakes.api_key("uma", "run.read")
    async with await AsyncSwarm.connect(BASE_URL, api_key=key, transport=transport) as swarm:
        assert (await swarm.run("r1").status()).id == "r1"
        with pytest.raises(NotAllowed, match="scopes"):
            await swarm.submit("x")
    wrong = key[:-2] + ("AE" if key.endswith("AA") else "AA")
    with pytest.raises(NotAuthenticated):
        await AsyncSwarm.connect(BASE_URL, api_key=wrong, transport=transport)


async def test_a_new_key_does_not_show_in_its_repr() -> None:
    async with await connected(Fakes()) as swarm:
        key = await swarm.people.create_api_key("ci", ["run.read"])
        assert key.key
        assert key.key not in repr(key)
        assert [each.id for each in await swarm.people.api_keys()] == [key.id]
