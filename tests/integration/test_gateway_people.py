# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""People on a real broker, Postgres and Valkey: sessions, keys, limits, and their record."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from bus.event import StoredEvent
from bus.people import (
    AttemptsLimited,
    LoginRefused,
    SessionEnded,
    SessionRefreshed,
    TokenReused,
    UserCreated,
)
from bus.subjects import SYSTEM_RUN, run_filter
from policies.rate_limits import LOGIN
from policies.token_keys import REREAD_S, rotate
from storage.people_outbox import PeopleOutbox
from storage.postgres import open_pool
from storage.users import UserStore
from swarm import AsyncSwarm
from swarm.errors import NotAllowed
from tests.broker import Broker
from tests.integration.test_gateway_parts import (  # noqa: F401 - fixtures
    PostgresServer,
    connect,
    dsn,
    line,
    postgres,
    template,
    valkey,
)
from tests.unit.serve.fakes import BASE_URL, PASSWORD

ADMIN = {"username": "admin", "password": PASSWORD}


def client_of(line: httpx.ASGITransport, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(line.app, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL)


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def log_in(client: httpx.AsyncClient, **body: str) -> dict[str, str]:
    answer = await client.post("/auth/login", json={**ADMIN, **body})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


async def record(broker: Broker, dsn: str) -> list[StoredEvent]:
    """What the log says of people, once everything that was noted has been passed on."""
    async with open_pool(dsn) as pool, asyncio.timeout(60):
        while await PeopleOutbox(pool).backlog():  # noqa: ASYNC110 - the gateway is at it
            await asyncio.sleep(0.05)
    async with broker.joined("gateway", "reader") as log:
        events = [event async for event in log.read(run_filter(SYSTEM_RUN))]
    assert all(isinstance(event, StoredEvent) for event in events), "one was refused"
    return [event for event in events if isinstance(event, StoredEvent)]


async def test_a_life_of_a_user_is_on_record_and_accepted_by_who_reads_it(
    broker: Broker, line: httpx.ASGITransport, dsn: str
) -> None:
    async with client_of(line) as client:
        admin = bearing((await log_in(client))["access_token"])
        body = {"username": "ben", "password": "a password for ben"}
        user = (await client.post("/v1/users", json=body, headers=admin)).json()
        tokens = await log_in(client, **body)
        tokens = (
            await client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
        ).json()
        ben = bearing(tokens["access_token"])
        key = (
            await client.post(
                "/auth/api-keys", json={"name": "ci", "scopes": ["run.read"]}, headers=ben
            )
        ).json()
        assert (await client.get("/v1/runs", headers=bearing(key["key"]))).json() == {"runs": []}
        await client.delete(f"/auth/api-keys/{key['id']}", headers=ben)
        assert (await client.get("/v1/runs", headers=bearing(key["key"]))).status_code == 401
        path = f"/v1/users/{user['id']}"
        await client.patch(path, json={"disabled": True}, headers=admin)
        assert (await client.get("/v1/runs", headers=ben)).status_code == 401
        refused = await client.post("/auth/login", json=body)
        assert refused.status_code == 401
        assert (await client.post("/auth/logout", headers=admin)).status_code == 204
    kinds = Counter(
        event.event.type.removeprefix("swarm.").removesuffix(".v1")
        for event in await record(broker, dsn)
        if event.event.role == "gateway"
    )
    assert kinds == {
        "agent.started": 1,
        "login.succeeded": 2,
        "user.created": 1,
        "session.refreshed": 1,
        "apikey.created": 1,
        "apikey.used": 1,
        "apikey.revoked": 1,
        "user.changed": 1,
        "login.refused": 1,
        "session.ended": 1,
    }


async def test_of_refreshes_at_once_one_wins_and_the_session_is_over(
    broker: Broker, line: httpx.ASGITransport, dsn: str
) -> None:
    async with client_of(line) as client:
        tokens = await log_in(client)
        body = {"refresh_token": tokens["refresh_token"]}
        answers = await asyncio.gather(*(client.post("/auth/refresh", json=body) for _ in range(8)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 7}
        (winner,) = [answer.json() for answer in answers if answer.status_code == 200]
        for each in (tokens, winner):
            headers = bearing(each["access_token"])
            assert (await client.get("/auth/validate", headers=headers)).status_code == 401
    reused = [e for e in await record(broker, dsn) if e.event.type == TokenReused.TYPE]
    assert len(reused) == 1


async def test_a_broker_that_is_away_logs_nobody_out_and_hides_nothing(
    broker: Broker, line: httpx.ASGITransport, dsn: str
) -> None:
    async with client_of(line) as client:
        tokens, other = await log_in(client), await log_in(client)
        await broker.stop()
        for _ in range(2):
            body = {"refresh_token": tokens["refresh_token"]}
            answer = await client.post("/auth/refresh", json=body)
            assert answer.status_code == 200
            tokens = answer.json()
        admin = bearing(tokens["access_token"])
        user = {"username": "eve", "password": "a password for eve", "role": "admin"}
        assert (await client.post("/v1/users", json=user, headers=admin)).status_code == 201
        path = f"/auth/sessions/{other['session_id']}"
        assert (await client.delete(path, headers=admin)).status_code == 204
        await broker.start()
        kinds = Counter(event.event.type for event in await record(broker, dsn))
    assert kinds[SessionRefreshed.TYPE] == 2
    assert kinds[UserCreated.TYPE] == kinds[SessionEnded.TYPE] == 1
    assert kinds[TokenReused.TYPE] == 0


async def test_a_new_signing_key_is_noticed_and_logs_nobody_out(
    line: httpx.ASGITransport, tmp_path: Path
) -> None:
    async with client_of(line) as client:
        before = await log_in(client)
        rotate(tmp_path / "token.pem", now=datetime.now(UTC))
        async with asyncio.timeout(10 * REREAD_S):
            while len((await client.get("/.well-known/jwks.json")).json()["keys"]) < 2:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.05)
        after = await log_in(client)
        for tokens in (before, after):
            headers = bearing(tokens["access_token"])
            assert (await client.get("/auth/validate", headers=headers)).status_code == 200


async def test_an_address_that_guesses_is_kept_out_and_others_are_not(
    broker: Broker, line: httpx.ASGITransport, dsn: str
) -> None:
    async with client_of(line, "192.0.2.66") as guesser, client_of(line, "192.0.2.77") as other:
        for number in range(LOGIN.amount):
            body = {"username": f"user{number}", "password": "guess"}
            assert (await guesser.post("/auth/login", json=body)).status_code == 401
        for _ in range(20):
            kept_out = await guesser.post("/auth/login", json=ADMIN)
            assert kept_out.status_code == 429
            assert 0 < int(kept_out.headers["retry-after"]) <= 60
        spoofing = {"X-Forwarded-For": "192.0.2.88"}
        spoofed = await guesser.post("/auth/login", json=ADMIN, headers=spoofing)
        assert spoofed.status_code == 429
        await log_in(other)
    events = await record(broker, dsn)
    assert len([e for e in events if e.event.type == LoginRefused.TYPE]) == LOGIN.amount
    assert len([e for e in events if e.event.type == AttemptsLimited.TYPE]) == 1
    said = " ".join(f"{e.event.headers} {e.event.body!r}" for e in events)
    assert "192.0.2" not in said
    assert "user1" not in said


async def test_two_users_share_no_run(line: httpx.ASGITransport, dsn: str) -> None:
    async with await connect(line) as swarm:
        await swarm.people.create_user("ann", PASSWORD)
        await swarm.people.create_user("bob", PASSWORD)
    async with client_of(line) as client:
        ann = bearing((await log_in(client, username="ann"))["access_token"])
        bob = bearing((await log_in(client, username="bob"))["access_token"])
        run = (await client.post("/v1/runs", json={"objective": "x"}, headers=ann)).json()["id"]
        assert (await client.get(f"/v1/runs/{run}", headers=ann)).status_code == 200
        for path in ("", "/events", "/log", "/audit"):
            answer = await client.get(f"/v1/runs/{run}{path}", headers=bob)
            assert answer.status_code == 404, path
        assert (await client.get("/v1/runs", headers=bob)).json()["runs"] == []
        assert len((await client.get("/v1/runs", headers=ann)).json()["runs"]) == 1


async def test_a_demotion_by_hand_in_the_database_holds_within_seconds(
    line: httpx.ASGITransport, dsn: str
) -> None:
    async with await connect(line) as swarm, open_pool(dsn) as pool:
        await swarm.people.create_user("second", PASSWORD, role="admin")
        users = UserStore(pool)
        admin = await users.by_name("admin")
        assert admin is not None
        await users.change(admin.id, role="viewer")
        async with asyncio.timeout(20):
            while await _may_list(swarm):  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.1)


async def _may_list(swarm: AsyncSwarm) -> bool:
    try:
        await swarm.people.users()
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize("token", ["swr_" + "a" * 43, "' or 1=1 --", "\u202e", "swk_x"])
async def test_made_up_refresh_tokens_reach_no_table(line: httpx.ASGITransport, token: str) -> None:
    async with client_of(line) as client:
        answer = await client.post("/auth/refresh", json={"refresh_token": token})
    assert answer.status_code == 401
