"""What is done with accounts while the broker is away: it counts, and is on record once."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from bus.errors import PublishDenied
from bus.event import Draft, StoredEvent
from bus.log import Expected
from bus.payload import Payload
from bus.people import (
    ApiKeyRevoked,
    LoginSucceeded,
    SessionEnded,
    SessionRefreshed,
    TokenReused,
    UserChanged,
    UserCreated,
)
from serve.people import PeopleRules
from serve.people_events import PeopleEvents
from tests.unit.serve.fakes import PASSWORD, UMA, Fakes, MemoryLog
from tests.unit.serve.test_gateway_people import bearing, logged_in, recorded, refreshed

Act = Callable[[httpx.AsyncClient, dict[str, str]], Awaitable[httpx.Response]]
NEW_USER = {"username": "zoe", "password": "a password for zoe"}


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a task of the gateway's is at it
        await asyncio.sleep(0.01)


async def ends_a_session(client: httpx.AsyncClient, own: dict[str, str]) -> httpx.Response:
    return await client.delete(f"/auth/sessions/{own['session_id']}")


async def logs_out(client: httpx.AsyncClient, own: dict[str, str]) -> httpx.Response:
    return await client.post("/auth/logout", headers=bearing(own["access_token"]))


async def takes_a_key_back(client: httpx.AsyncClient, own: dict[str, str]) -> httpx.Response:
    return await client.delete(f"/auth/api-keys/{own['key_id']}")


async def registers(client: httpx.AsyncClient, _: dict[str, str]) -> httpx.Response:
    return await client.post("/auth/register", json=NEW_USER)


async def makes_a_user(client: httpx.AsyncClient, own: dict[str, str]) -> httpx.Response:
    body = {**NEW_USER, "role": "admin"}
    return await client.post("/v1/users", json=body, headers=bearing(own["admin"]))


@pytest.mark.parametrize(
    ("act", "kind", "status", "repeated"),
    [
        (ends_a_session, SessionEnded, 204, 404),
        (logs_out, SessionEnded, 204, 401),
        (takes_a_key_back, ApiKeyRevoked, 204, 404),
        (registers, UserCreated, 201, 409),
        (makes_a_user, UserCreated, 201, 409),
    ],
)
async def test_what_is_done_while_the_broker_is_away_is_on_record_once(
    act: Act, kind: type[Payload], status: int, repeated: int
) -> None:
    fakes = Fakes(rules=PeopleRules(registration="open"))
    async with fakes.client("uma") as client:
        own = await logged_in(client)
        key = {"name": "ci", "scopes": ["run.read"]}
        own["key_id"] = (await client.post("/auth/api-keys", json=key)).json()["id"]
        own["admin"] = fakes.token("ada")
        fakes.record.down = True
        assert (await act(client, own)).status_code == status
        assert (await act(client, own)).status_code == repeated
        fakes.record.down = False
    assert len(recorded(fakes, kind)) == 1


async def test_who_is_changed_while_the_broker_is_away_is_so_on_record() -> None:
    fakes = Fakes()
    new = {"current_password": PASSWORD, "new_password": "an entirely new one"}
    raised = {"role": "admin", "password": "yet another new one"}
    async with fakes.client("uma") as client:
        ada = bearing(fakes.token("ada"))
        fakes.record.down = True
        assert (await client.post("/auth/password", json=new)).status_code == 204
        path = f"/v1/users/{UMA}"
        assert (await client.patch(path, json=raised, headers=ada)).status_code == 200
        fakes.record.down = False
    assert recorded(fakes, UserChanged) == [
        UserChanged(user=UMA, by=UMA, password=True),
        UserChanged(user=UMA, by=fakes.id_of("ada"), role="admin", password=True),
    ]


async def test_who_refreshes_while_the_broker_is_away_stays_logged_in() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        tokens = await logged_in(client)
        session = tokens["session_id"]
        fakes.record.down = True
        for _ in range(2):
            answer = await refreshed(client, tokens["refresh_token"])
            assert answer.status_code == 200
            tokens = answer.json()
        fakes.record.down = False
        who = await client.get("/auth/validate", headers=bearing(tokens["access_token"]))
        assert who.status_code == 200
    assert recorded(fakes, SessionRefreshed) == [SessionRefreshed(user=UMA, session=session)] * 2
    assert not recorded(fakes, TokenReused)


async def test_a_theft_while_the_broker_is_away_is_refused_and_told_later() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        tokens = await logged_in(client)
        assert (await refreshed(client, tokens["refresh_token"])).status_code == 200
        fakes.record.down = True
        assert (await refreshed(client, tokens["refresh_token"])).status_code == 401
        fakes.record.down = False
        assert (await refreshed(client, tokens["refresh_token"])).status_code == 401
    (stolen,) = recorded(fakes, TokenReused)
    assert stolen.model_dump()["session"] == tokens["session_id"]


async def test_what_was_done_is_told_in_the_order_in_which_it_was_done() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        tokens = await logged_in(client)
        fakes.record.down = True
        tokens = (await refreshed(client, tokens["refresh_token"])).json()
        await logs_out(client, tokens)
        fakes.record.down = False
    told = [stored.payload() for stored in fakes.record.stored if isinstance(stored, StoredEvent)]
    assert [type(each) for each in told] == [LoginSucceeded, SessionRefreshed, SessionEnded]
    assert fakes.users.outbox.noted == []


async def test_what_was_noted_is_passed_on_at_once_and_again_when_the_broker_is_back() -> None:
    """Nobody but the task asks; it is woken, and after a failure it needs no waking."""
    fakes = Fakes()
    passing_on = asyncio.create_task(fakes.events.keep_passing_on())
    try:
        async with fakes.client(None) as client, asyncio.timeout(10):
            tokens = await logged_in(client)
            tokens = (await refreshed(client, tokens["refresh_token"])).json()
            await until(lambda: len(recorded(fakes, SessionRefreshed)) == 1)
            fakes.record.down = True
            await refreshed(client, tokens["refresh_token"])
            await asyncio.sleep(0.05)
            fakes.record.down = False
            await until(lambda: len(recorded(fakes, SessionRefreshed)) == 2)
    finally:
        passing_on.cancel()


async def test_who_passes_on_stops_though_a_library_loses_the_cancellation() -> None:
    begun = asyncio.Event()

    class Deaf:
        async def pass_on(self, _: Callable[[Draft], Awaitable[object]]) -> int:
            begun.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return 0

    passing_on = asyncio.create_task(PeopleEvents(Deaf(), MemoryLog()).keep_passing_on())
    await begun.wait()
    passing_on.cancel()
    _, going = await asyncio.wait([passing_on], timeout=5)
    assert not going


async def test_passing_on_ends_with_what_is_noted_though_some_was_told_each_time() -> None:
    asked = 0

    class Ample:
        async def pass_on(self, _: Callable[[Draft], Awaitable[object]]) -> int:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            return 1

    async with asyncio.timeout(5):
        await PeopleEvents(Ample(), MemoryLog()).pass_on()
    assert asked == 1


async def test_what_the_log_will_never_take_holds_nothing_up_and_is_kept() -> None:
    class Refusing(MemoryLog):
        async def append(self, draft: Draft, *, expected: Expected | None = None) -> StoredEvent:
            if isinstance(draft.payload, SessionRefreshed):
                raise PublishDenied
            return await super().append(draft, expected=expected)

    fakes = Fakes(record=Refusing())
    async with fakes.client(None) as client:
        tokens = await logged_in(client)
        tokens = (await refreshed(client, tokens["refresh_token"])).json()
        await logs_out(client, tokens)
    assert len(recorded(fakes, SessionEnded)) == 1
    assert [type(draft.payload) for draft in fakes.users.outbox.noted] == [SessionRefreshed]
