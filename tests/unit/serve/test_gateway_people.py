"""Sessions, API keys and users over HTTP, and what is recorded of them."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bus.event import SIGNATURE_HEADER, StoredEvent
from bus.payload import Payload
from bus.people import (
    ApiKeyCreated,
    ApiKeyRevoked,
    ApiKeyUsed,
    AttemptsLimited,
    LoginRefused,
    LoginSucceeded,
    RefreshRefused,
    SessionEnded,
    SessionRefreshed,
    TokenReused,
    UserChanged,
    UserCreated,
)
from policies.api_keys import MARK
from policies.rate_limits import LOGIN
from policies.token_keys import KeyRing
from serve.app import create_app
from serve.callers import STANDING_S
from serve.people import PeopleRules
from serve.problems import RETRY_AFTER_S
from serve.stream import HEARTBEAT, while_welcome
from storage.errors import StorageUnavailable
from tests.unit.serve.fakes import BASE_URL, NOW, PASSWORD, UMA, Fakes, quick, submit

LOGIN_BODY = {"username": "uma", "password": PASSWORD}


def recorded(fakes: Fakes, kind: type[Payload]) -> list[Payload]:
    payloads = [stored.payload() for stored in fakes.record.of_kind(_kind(kind), "swarm")]
    assert all(isinstance(payload, kind) for payload in payloads)
    return payloads


def _kind(kind: type[Payload]) -> str:
    return kind.TYPE.removeprefix("swarm.").removesuffix(".v1")


async def logged_in(client: httpx.AsyncClient, **body: str) -> dict[str, str]:
    answer = await client.post("/auth/login", json={**LOGIN_BODY, **body})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def refreshed(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/auth/refresh", json={"refresh_token": token})


async def test_a_refresh_gives_new_tokens_of_the_same_session() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        first = await logged_in(client)
        second = (await refreshed(client, first["refresh_token"])).json()
        assert second["session_id"] == first["session_id"]
        assert second["refresh_token"] != first["refresh_token"]
        who = await client.get("/auth/validate", headers=bearing(second["access_token"]))
    assert who.json()["username"] == "uma"
    assert recorded(fakes, SessionRefreshed) == [
        SessionRefreshed(user=UMA, session=first["session_id"])
    ]


async def test_a_stolen_refresh_token_ends_the_session_of_thief_and_owner() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        owner = await logged_in(client)
        other = await logged_in(client)
        thief = (await refreshed(client, owner["refresh_token"])).json()
        assert (await refreshed(client, owner["refresh_token"])).status_code == 401
        assert (await refreshed(client, thief["refresh_token"])).status_code == 401
        for tokens, status in ((owner, 401), (thief, 401), (other, 200)):
            headers = bearing(tokens["access_token"])
            assert (await client.get("/auth/validate", headers=headers)).status_code == status
    (reused,) = recorded(fakes, TokenReused)
    assert isinstance(reused, TokenReused)
    assert (reused.user, reused.session) == (UMA, owner["session_id"])


@pytest.mark.parametrize("token", ["x", "swr_" + "a" * 43, "swk_" + "a" * 43, "a" * 128])
async def test_what_is_no_refresh_token_is_refused_and_recorded(token: str) -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        answer = await refreshed(client, token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert len(recorded(fakes, RefreshRefused)) == 1


async def test_an_access_token_is_no_refresh_token_and_the_other_way_round() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        tokens = await logged_in(client)
        headers = bearing(tokens["refresh_token"])
        assert (await client.get("/auth/validate", headers=headers)).status_code == 401
        assert (await refreshed(client, tokens["access_token"][:128])).status_code == 401


async def test_logging_out_ends_this_session_at_once_and_no_other() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        here, there = await logged_in(client), await logged_in(client)
        out = await client.post("/auth/logout", headers=bearing(here["access_token"]))
        assert (out.status_code, out.content) == (204, b"")
        again = await client.get("/auth/validate", headers=bearing(here["access_token"]))
        other = await client.get("/auth/validate", headers=bearing(there["access_token"]))
        assert (again.status_code, other.status_code) == (401, 200)
        assert (await refreshed(client, here["refresh_token"])).status_code == 401
    assert recorded(fakes, SessionEnded) == [
        SessionEnded(user=UMA, session=here["session_id"], because="logout")
    ]


async def test_sessions_are_listed_and_ended_by_their_user_only() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        mine = await logged_in(client)
        answer = await client.post(
            "/auth/login",
            json=LOGIN_BODY,
            headers={b"User-Agent": "curl/8 \u00e9".encode("latin1")},
        )
        phone = answer.json()
        ada = await logged_in(client, username="ada")
        headers = bearing(mine["access_token"])
        listed = (await client.get("/auth/sessions", headers=headers)).json()["sessions"]
        assert [each["id"] for each in listed] == [mine["session_id"], phone["session_id"]]
        assert [each["current"] for each in listed] == [True, False]
        assert listed[1]["client"].startswith("curl/8")
        for target, status in ((ada, 404), (phone, 204), (phone, 404)):
            path = f"/auth/sessions/{target['session_id']}"
            assert (await client.delete(path, headers=headers)).status_code == status
        gone = await client.get("/auth/validate", headers=bearing(phone["access_token"]))
        assert gone.status_code == 401


async def test_the_refresh_token_outlives_the_access_token_by_far() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        tokens = await logged_in(client)
        fakes.now = NOW + timedelta(days=29)
        fakes.seconds += 10
        old = await client.get("/auth/validate", headers=bearing(tokens["access_token"]))
        assert "expired" in old.json()["detail"]
        renewed = await refreshed(client, tokens["refresh_token"])
        assert renewed.status_code == 200
        fakes.now += timedelta(days=31)
        assert (await refreshed(client, renewed.json()["refresh_token"])).status_code == 401


async def test_who_is_disabled_is_out_within_moments_whatever_their_token_says() -> None:
    fakes = Fakes()
    async with fakes.client("uma") as client:
        assert (await client.get("/v1/runs")).status_code == 200
        await fakes.users.change(fakes.users.users["uma"].id, disabled=True)
        assert (await client.get("/v1/runs")).status_code == 200  # known a moment ago
        fakes.seconds += STANDING_S
        assert (await client.get("/v1/runs")).status_code == 401


async def test_an_admin_who_bars_somebody_need_not_wait_at_all() -> None:
    fakes = Fakes()
    app = httpx.ASGITransport(create_app(fakes.parts()))
    async with httpx.AsyncClient(transport=app, base_url=BASE_URL) as client:
        uma, ada = bearing(fakes.token("uma")), bearing(fakes.token("ada"))
        assert (await client.get("/v1/runs", headers=uma)).status_code == 200
        path = f"/v1/users/{UMA}"
        changed = await client.patch(path, json={"role": "viewer"}, headers=ada)
        assert changed.json()["role"] == "viewer"
        refused = await client.post("/v1/runs", json={"objective": "x"}, headers=uma)
        assert refused.status_code == 403
        await client.patch(path, json={"disabled": True}, headers=ada)
        assert (await client.get("/v1/runs", headers=uma)).status_code == 401
        await client.patch(path, json={"disabled": False}, headers=ada)
        assert (await client.get("/v1/runs", headers=uma)).status_code == 401  # sessions ended
    await fakes.events.pass_on()
    assert [payload.model_dump()["disabled"] for payload in recorded(fakes, UserChanged)] == [
        None,
        True,
        False,
    ]


async def test_a_password_is_changed_with_the_end_of_the_other_sessions_or_not_at_all() -> None:
    fakes = Fakes()
    fakes.sessions.faults = 1
    change = {"current_password": PASSWORD, "new_password": "an entirely new one"}
    async with fakes.client(None) as client:
        here, there = await logged_in(client), await logged_in(client)
        own, other = bearing(here["access_token"]), bearing(there["access_token"])
        failed = await client.post("/auth/password", json=change, headers=own)
        assert failed.status_code == 503
        assert recorded(fakes, UserChanged) == []
        again = await client.post("/auth/password", json=change, headers=own)
        assert again.status_code == 204
        assert (await client.get("/auth/validate", headers=other)).status_code == 401
        assert (await client.get("/auth/validate", headers=own)).status_code == 200
        await logged_in(client, password="an entirely new one")
    await fakes.events.pass_on()
    assert recorded(fakes, UserChanged) == [UserChanged(user=UMA, by=UMA, password=True)]


@pytest.mark.parametrize("change", [{"password": "yet another new one"}, {"disabled": True}])
async def test_an_admins_change_ends_the_sessions_with_it_or_is_not_done(
    change: dict[str, object],
) -> None:
    fakes = Fakes()
    fakes.sessions.faults = 1
    before = fakes.users.users["uma"]
    async with fakes.client("ada") as client:
        uma = bearing(fakes.token("uma"))
        assert (await client.patch(f"/v1/users/{UMA}", json=change)).status_code == 503
        assert fakes.users.users["uma"] == before
        assert (await client.get("/auth/validate", headers=uma)).status_code == 200
        assert (await client.patch(f"/v1/users/{UMA}", json=change)).status_code == 200
        assert (await client.get("/auth/validate", headers=uma)).status_code == 401


async def test_a_change_that_is_refused_logs_nobody_out() -> None:
    fakes = Fakes()
    async with fakes.client("ada") as client:
        refused = await client.patch(f"/v1/users/{fakes.id_of('ada')}", json={"disabled": True})
        assert refused.status_code == 409
        assert (await client.get("/auth/validate")).status_code == 200


async def test_people_can_look_on_while_the_database_restarts_and_strangers_cannot() -> None:
    fakes = Fakes()
    async with fakes.client("uma") as client:
        assert (await client.get("/v1/runs")).status_code == 200
        fakes.users.down = True
        fakes.seconds += 600
        assert (await client.get("/v1/runs")).status_code == 200
        other = await client.get("/v1/runs", headers=bearing(fakes.token("ada")))
        assert other.status_code == 503
        assert other.headers["retry-after"] == str(RETRY_AFTER_S)
        fakes.seconds += 1_000
        assert (await client.get("/v1/runs")).status_code == 503


async def test_many_requests_at_once_ask_the_database_once() -> None:
    fakes = Fakes()
    async with fakes.client("uma") as client:
        await asyncio.gather(*(client.get("/v1/runs") for _ in range(20)))
    assert fakes.sessions.asked == 1


@pytest.mark.parametrize("by", ["token", "key"])
async def test_an_open_stream_ends_when_its_reader_is_barred(by: str) -> None:
    """Heartbeats come for ever; the reader is asked about before each."""
    fakes = Fakes()
    bearer = fakes.token("uma") if by == "token" else fakes.api_key("uma", "run.read")
    callers = fakes.people().callers
    caller = await callers.identify(bearer, now=NOW)

    async def heartbeats() -> AsyncGenerator[bytes, None]:
        while True:
            yield HEARTBEAT

    got = 0
    async for _ in while_welcome(heartbeats(), lambda: callers.still(caller, bearer, now=NOW)):
        got += 1
        if got == 3:
            await fakes.users.change(fakes.users.users["uma"].id, disabled=True)
            fakes.seconds += STANDING_S
        assert got < 10
    assert got == 3


async def test_the_stream_of_a_run_ends_when_its_reader_is_barred() -> None:
    """The run goes on, so nothing else would end it."""
    fakes = Fakes()
    await submit(fakes.log)
    async with fakes.client("uma", quick()) as client:
        reading = asyncio.create_task(client.get("/v1/runs/r1/events"))
        while not fakes.log.reads:  # noqa: ASYNC110 - until the stream has begun
            await asyncio.sleep(0)
        await fakes.users.change(fakes.users.users["uma"].id, disabled=True)
        fakes.seconds += STANDING_S
        answer = await asyncio.wait_for(reading, 10)
    assert answer.status_code == 200


async def test_an_open_stream_goes_on_while_nobody_can_say_who_is_barred() -> None:
    async def two() -> AsyncGenerator[bytes, None]:
        yield b"1"
        yield b"2"

    async def nobody_can_say() -> bool:
        raise StorageUnavailable

    assert [piece async for piece in while_welcome(two(), nobody_can_say)] == [b"1", b"2"]


async def test_a_key_is_shown_once_and_works_for_its_scopes() -> None:
    fakes = Fakes()
    async with fakes.client("uma") as client:
        made = await client.post(
            "/auth/api-keys", json={"name": "ci", "scopes": ["run.read"], "expires_in_days": 7}
        )
        assert made.status_code == 201
        key = made.json()
        assert key["key"].startswith(key["prefix"])
        (listed,) = (await client.get("/auth/api-keys")).json()["api_keys"]
        assert "key" not in listed
        assert listed["name"] == "ci"
        headers = bearing(key["key"])
        who = (await client.get("/auth/validate", headers=headers)).json()
        assert (who["username"], who["scopes"], who["session_id"]) == ("uma", ["run.read"], None)
        assert (await client.get("/v1/runs", headers=headers)).status_code == 200
        body = {"objective": "x"}
        refused = await client.post("/v1/runs", json=body, headers=headers)
        assert refused.status_code == 403
        assert "scopes" in refused.json()["detail"]
        gone = await client.delete(f"/auth/api-keys/{key['id']}")
        assert gone.status_code == 204
        assert (await client.get("/v1/runs", headers=headers)).status_code == 401
    secret = key["key"].removeprefix(f"{key['prefix']}_")
    assert len(secret) == 43
    assert not [stored for stored in fakes.record.stored if secret in str(stored)]
    assert len(recorded(fakes, ApiKeyCreated)) == 1
    assert recorded(fakes, ApiKeyUsed) == [ApiKeyUsed(user=UMA, key=key["id"])]
    assert recorded(fakes, ApiKeyRevoked) == [ApiKeyRevoked(user=UMA, key=key["id"])]


async def test_a_key_expires() -> None:
    fakes = Fakes()
    key = fakes.api_key("uma", "run.read")
    async with fakes.client(None) as client:
        assert (await client.get("/v1/runs", headers=bearing(key))).status_code == 200
        fakes.now += timedelta(days=90)
        assert (await client.get("/v1/runs", headers=bearing(key))).status_code == 401


async def test_the_prefix_alone_opens_nothing() -> None:
    fakes = Fakes()
    key = fakes.api_key("uma", "run.read")
    forged = key[: len(MARK) + 13] + "A" * 43
    async with fakes.client(None) as client:
        for wrong in (forged, key[:-1], key + "A", key.lower()):
            answer = await client.get("/v1/runs", headers=bearing(wrong))
            assert answer.status_code == 401, wrong


async def test_what_the_log_cannot_be_told_is_not_done() -> None:
    """Nobody gets a token whose making is not on record."""
    fakes = Fakes()
    await fakes.record.break_down()
    async with fakes.client(None) as client:
        assert (await client.post("/auth/login", json=LOGIN_BODY)).status_code == 503


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "scopes": ["run.read"]},
        {"name": "a\0b", "scopes": ["run.read"]},
        {"name": "ci", "scopes": []},
        {"name": "ci", "scopes": ["run.*"]},
        {"name": "ci", "scopes": ["user.manage"]},
        {"name": "ci", "scopes": ["account.manage"]},
        {"name": "ci", "scopes": ["api_key.manage"]},
        {"name": "ci", "scopes": ["run.read"], "expires_in_days": 0},
        {"name": "ci", "scopes": ["run.read"], "expires_in_days": 366},
        {"name": "ci", "scopes": ["run.read"], "user": "ada"},
    ],
)
async def test_a_key_that_nobody_may_have_is_not_made(body: dict[str, object]) -> None:
    fakes = Fakes()
    async with fakes.client("uma") as client:
        assert (await client.post("/auth/api-keys", json=body)).status_code == 422
    assert not fakes.api_keys.keys


async def test_limits_answer_429_and_say_when_to_come_back() -> None:
    fakes = Fakes()
    fakes.rates.enforced |= {"login", "validation", "api_key_creation"}
    async with fakes.client("uma") as client:
        for _ in range(100):
            assert (await client.get("/auth/validate")).status_code == 200
        limited = [await client.get("/auth/validate")]
        for _ in range(10):
            await client.post("/auth/api-keys", json={"name": "k", "scopes": ["run.read"]})
        limited.append(
            await client.post("/auth/api-keys", json={"name": "k", "scopes": ["run.read"]})
        )
        for number in range(LOGIN.amount):
            body = {"username": f"u{number}", "password": "x"}
            assert (await client.post("/auth/login", json=body)).status_code == 401
        limited.append(await client.post("/auth/login", json=LOGIN_BODY))
    assert [answer.status_code for answer in limited] == [429] * 3
    assert [answer.headers["retry-after"] for answer in limited] == ["60"] * 3


async def test_who_logs_in_well_is_not_counted_against_the_address() -> None:
    fakes = Fakes()
    fakes.rates.enforced.add("login")
    async with fakes.client(None) as client:
        for _ in range(3 * LOGIN.amount):
            await logged_in(client)


async def test_a_flood_of_refused_attempts_is_a_few_events_with_their_number() -> None:
    fakes = Fakes()
    fakes.rates.enforced.add("login")
    async with fakes.client(None) as client:
        for number in range(LOGIN.amount + 30):
            body = {"username": f"u{number}", "password": "x"}
            await client.post("/auth/login", json=body)
        assert len(recorded(fakes, LoginRefused)) == LOGIN.amount
        assert [each.model_dump()["count"] for each in recorded(fakes, AttemptsLimited)] == [1]
        await fakes.attempts.flush()
        assert len(recorded(fakes, AttemptsLimited)) == 1
        fakes.seconds += 60
        await fakes.attempts.flush()
        await fakes.attempts.flush()
    counts = [each.model_dump()["count"] for each in recorded(fakes, AttemptsLimited)]
    assert counts == [1, 29]


async def test_counts_that_could_not_be_recorded_are_told_with_the_next() -> None:
    fakes = Fakes()
    await fakes.record.break_down()
    await fakes.attempts.limited("login", "192.0.2.1")
    fakes.record.down = False
    fakes.seconds += 60
    await fakes.attempts.limited("login", "192.0.2.1")
    assert [each.model_dump()["count"] for each in recorded(fakes, AttemptsLimited)] == [2]


def without_signature(stored: object) -> str:
    """An event as it is told, but for what is random in it and may hold any word."""
    assert isinstance(stored, StoredEvent)
    headers = {n: v for n, v in stored.event.headers.items() if n != SIGNATURE_HEADER}
    return f"{stored.event.subject} {headers} {stored.event.data!r}"


async def test_the_record_names_nobody_and_nothing_that_was_typed() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        await client.post("/auth/login", json={"username": "uma", "password": "hunter2-hunter2"})
        await client.post("/auth/login", json={"username": "nobody", "password": "hunter2"})
        await logged_in(client)
    said = " ".join(map(without_signature, fakes.record.stored))
    for word in ("uma", "nobody", "hunter2", PASSWORD, "127.0.0.1"):
        assert word not in said, word
    first, second = recorded(fakes, LoginRefused)
    assert first.model_dump()["name"] != second.model_dump()["name"]
    (succeeded,) = recorded(fakes, LoginSucceeded)
    assert succeeded.model_dump()["user"] == UMA


async def test_registration_is_closed_unless_somebody_opens_it() -> None:
    body = {"username": "Zo\u00eb", "password": "a password for zoe"}
    async with Fakes().client(None) as client:
        closed = await client.post("/auth/register", json=body)
    assert closed.status_code == 403
    fakes = Fakes(rules=PeopleRules(registration="open"))
    async with fakes.client(None) as client:
        made = await client.post("/auth/register", json=body)
        assert (made.status_code, made.json()["role"]) == (201, "user")
        again = await client.post("/auth/register", json={**body, "username": "ZOE\u0308"})
        assert again.status_code == 409
        tokens = await logged_in(client, **body)
        assert (
            await client.get("/v1/users", headers=bearing(tokens["access_token"]))
        ).status_code == 403
    (created,) = recorded(fakes, UserCreated)
    assert created.model_dump()["by"] == created.model_dump()["user"] == made.json()["id"]


@pytest.mark.parametrize(
    "body",
    [
        {"username": "zoe", "password": "short"},
        {"username": "zoe", "password": "a" * 1025},
        {"username": "z o e", "password": "a password for zoe"},
        {"username": "\u0430dmin", "password": "a password for zoe"},
        {"username": "zoe", "password": "a password for zoe", "role": "admin"},
        {"username": "zoe"},
    ],
)
async def test_who_registers_cannot_be_somebody_else_or_more(body: dict[str, str]) -> None:
    fakes = Fakes(rules=PeopleRules(registration="open"))
    before = len(fakes.users.users)
    async with fakes.client(None) as client:
        assert (await client.post("/auth/register", json=body)).status_code == 422
    assert len(fakes.users.users) == before


async def test_an_admin_makes_users_and_changes_what_they_are() -> None:
    fakes = Fakes()
    async with fakes.client("ada") as client:
        body = {"username": "ben", "password": "a password for ben", "tenant": "red"}
        made = await client.post("/v1/users", json={**body, "role": "viewer"})
        assert made.status_code == 201
        user = made.json()
        assert (user["role"], user["tenant"], user["disabled"]) == ("viewer", "red", False)
        assert "password" not in made.text
        names = [each["username"] for each in (await client.get("/v1/users")).json()["users"]]
        assert names[-1] == "ben"
        path = f"/v1/users/{user['id']}"
        assert (await client.patch(path, json={"role": "user"})).json()["role"] == "user"
        assert (await client.patch(path, json={"role": "root"})).status_code == 422
        nobody = path.replace(user["id"], "00000000-0000-0000-0000-0000000000ff")
        assert (await client.patch(nobody, json={"disabled": True})).status_code == 404
        new = await client.patch(path, json={"password": "another one for ben"})
        assert new.status_code == 200
        await logged_in(client, username="ben", password="another one for ben")


async def test_the_last_admin_cannot_be_demoted() -> None:
    fakes = Fakes()
    async with fakes.client("ada") as client:
        path = f"/v1/users/{fakes.id_of('ada')}"
        answer = await client.patch(path, json={"role": "user"})
        assert answer.status_code == 409
        assert (await client.get("/v1/users")).status_code == 200


async def test_a_new_password_ends_the_other_sessions() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        here, there = await logged_in(client), await logged_in(client)
        headers = bearing(here["access_token"])
        new = {"current_password": PASSWORD, "new_password": "an entirely new one"}
        wrong = {**new, "current_password": "guess"}
        assert (await client.post("/auth/password", json=wrong, headers=headers)).status_code == 401
        short = {**new, "new_password": "short"}
        assert (await client.post("/auth/password", json=short, headers=headers)).status_code == 422
        assert (await client.post("/auth/password", json=new, headers=headers)).status_code == 204
        assert (await client.get("/auth/validate", headers=headers)).status_code == 200
        gone = await client.get("/auth/validate", headers=bearing(there["access_token"]))
        assert gone.status_code == 401
        assert (await client.post("/auth/login", json=LOGIN_BODY)).status_code == 401
        await logged_in(client, password="an entirely new one")


async def test_a_wrong_current_password_counts_against_the_address() -> None:
    fakes = Fakes()
    fakes.rates.enforced.add("login")
    stored = fakes.users.users["uma"].password_hash
    tokens = []
    for number in range(LOGIN.amount + 1):
        fakes.users.add(f"user{number}", "user", stored)
        tokens.append(fakes.token(f"user{number}"))
    guess = {"current_password": "guess", "new_password": "an entirely new one"}
    async with fakes.client(None) as client:
        answers = [
            await client.post("/auth/password", json=guess, headers=bearing(token))
            for token in tokens
        ]
    assert [each.status_code for each in answers] == [401] * LOGIN.amount + [429]


async def test_a_change_of_password_gives_back_only_the_place_that_it_took() -> None:
    """Be it made, or be there nobody to look at the password."""
    fakes = Fakes()
    new = {"current_password": PASSWORD, "new_password": "an entirely new one"}
    again = {**new, "current_password": "an entirely new one"}
    async with fakes.client("uma") as client:
        await client.post("/auth/login", json={"username": "ada", "password": "guess"})
        (address,) = [who for limit, who in fakes.rates.taken if limit == LOGIN.name]
        assert (await client.post("/auth/password", json=new)).status_code == 204
        assert fakes.rates.taken[LOGIN.name, address] == 1
        await client.get("/auth/sessions")  # known for the next moment
        fakes.users.down = True
        assert (await client.post("/auth/password", json=again)).status_code == 503
    assert fakes.rates.taken[LOGIN.name, address] == 1


async def test_the_keys_are_public_and_verify_what_was_signed() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=60"
    (key,) = answer.json()["keys"]
    assert (key["kty"], key["alg"]) == ("OKP", "EdDSA")
    assert "d" not in key


async def test_a_new_signing_key_logs_nobody_out() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        before = await logged_in(client)
        old: KeyRing = fakes.ring
        fakes.ring = old.rotated(Ed25519PrivateKey.generate(), now=fakes.now, keep=True)
        after = await logged_in(client)
        for tokens in (before, after):
            headers = bearing(tokens["access_token"])
            assert (await client.get("/auth/validate", headers=headers)).status_code == 200
        assert len((await client.get("/.well-known/jwks.json")).json()["keys"]) == 2
        fakes.ring = old.rotated(Ed25519PrivateKey.generate(), now=fakes.now, keep=False)
        headers = bearing(before["access_token"])
        assert (await client.get("/auth/validate", headers=headers)).status_code == 401
        assert (await refreshed(client, before["refresh_token"])).status_code == 200
