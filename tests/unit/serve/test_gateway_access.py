"""Who gets in, and who does not."""

import asyncio
from datetime import timedelta

import httpx
import pytest
from fastapi.routing import APIRoute

from serve.app import create_app
from tests.unit.serve.fakes import BASE_URL, MODEL, NOW, PASSWORD, Fakes, submit

S1 = "00000000-0000-0000-0000-0000000000aa"
EVERY_CLOSED_ROUTE = [
    ("POST", "/auth/logout"),
    ("POST", "/auth/password"),
    ("GET", "/auth/sessions"),
    ("DELETE", f"/auth/sessions/{S1}"),
    ("GET", "/auth/api-keys"),
    ("POST", "/auth/api-keys"),
    ("DELETE", f"/auth/api-keys/{S1}"),
    ("GET", "/v1/users"),
    ("POST", "/v1/users"),
    ("PATCH", f"/v1/users/{S1}"),
    ("GET", "/auth/validate"),
    ("GET", "/health/ready"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/models"),
    ("GET", f"/v1/models/{MODEL}"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/runs/r1"),
    ("GET", "/v1/runs/r1/audit"),
    ("GET", "/v1/runs/r1/evidence"),
    ("GET", "/v1/audit/checkpoint"),
    ("GET", "/v1/audit/inclusion"),
    ("GET", "/v1/audit/consistency"),
    ("GET", "/v1/runs/r1/events"),
    ("GET", "/v1/runs/r1/log"),
    ("POST", "/v1/runs/r1/fork"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs/r1/cancel"),
    ("POST", "/v1/runs/r1/pause"),
    ("POST", "/v1/runs/r1/resume"),
    ("POST", "/v1/runs/r1/retry"),
    ("GET", "/v1/approvals"),
    ("POST", "/v1/approvals/a1/approve"),
    ("POST", "/v1/approvals/a1/deny"),
    ("GET", "/v1/dead-letters"),
    ("POST", "/v1/dead-letters/d1/redrive"),
    ("POST", "/v1/memory/search"),
    ("GET", "/v1/memory/shared/notes/items"),
    ("GET", "/v1/memory/shared/notes/export"),
    ("GET", "/v1/memory/shared/notes/items/i1"),
    ("PUT", "/v1/memory/shared/notes/items/i1"),
    ("DELETE", "/v1/memory/shared/notes/items/i1"),
    ("POST", "/v1/memory/reindex"),
    ("POST", "/v1/memory/rebuild"),
]


async def log_in(client: httpx.AsyncClient, username: str, password: str) -> httpx.Response:
    return await client.post("/auth/login", json={"username": username, "password": password})


async def test_the_right_password_gives_a_token_that_opens_the_rest() -> None:
    async with Fakes().client(None) as client:
        answer = await log_in(client, "ADA", PASSWORD)
        assert answer.status_code == 200
        body = answer.json()
        assert (body["token_type"], body["expires_in"]) == ("bearer", 3600)
        headers = {"Authorization": f"Bearer {body['access_token']}"}
        who = await client.get("/auth/validate", headers=headers)
    told = who.json()
    assert told.pop("session_id") == body["session_id"]
    assert told == {
        "user_id": "00000000-0000-0000-0000-000000000001",
        "username": "Ada",
        "role": "admin",
        "expires_at": "2026-01-02T04:04:05Z",
        "tenant": "default",
        "scopes": None,
    }


async def test_unknown_disabled_and_wrong_get_the_same_answer() -> None:
    async with Fakes().client(None) as client:
        answers = [
            await log_in(client, "nobody", PASSWORD),
            await log_in(client, "off", PASSWORD),
            await log_in(client, "uma", "wrong"),
        ]
    bodies = []
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="swarm"'
        bodies.append({**answer.json(), "request_id": None})
    assert bodies[0] == bodies[1] == bodies[2]


async def test_guessing_is_stopped_even_with_the_right_password_in_the_end() -> None:
    async with Fakes().client(None) as client:
        for _ in range(3):
            assert (await log_in(client, "uma", "guess")).status_code == 401
        answer = await log_in(client, "UMA", PASSWORD)
        other = await log_in(client, "ada", PASSWORD)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "42"
    assert answer.json()["code"] == "too_many_requests"
    assert other.status_code == 200


async def test_a_login_that_succeeds_forgets_the_failures() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        for _ in range(5):
            assert (await log_in(client, "uma", "guess")).status_code == 401
            assert (await log_in(client, "uma", PASSWORD)).status_code == 200
    assert fakes.throttle.attempts == {}


async def test_attempts_while_the_database_is_away_lock_nobody_out() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        fakes.users.down = True
        for _ in range(5):
            assert (await log_in(client, "uma", PASSWORD)).status_code == 503
        fakes.users.down = False
        assert (await log_in(client, "uma", PASSWORD)).status_code == 200


async def test_a_login_without_the_database_says_when_to_try_again_and_nothing_of_where() -> None:
    fakes = Fakes()
    fakes.users.down = True
    async with fakes.client(None) as client:
        answer = await log_in(client, "uma", PASSWORD)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert "10.0.0.7" not in answer.text


@pytest.mark.parametrize(("method", "path"), EVERY_CLOSED_ROUTE)
async def test_no_route_answers_a_stranger(method: str, path: str) -> None:
    fakes = Fakes()
    await submit(fakes.log)
    async with fakes.client(None) as client:
        answer = await client.request(method, path, json={"objective": "x"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="swarm"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(fakes.log.stored) == 1


def test_the_list_of_closed_routes_is_complete() -> None:
    routes = {
        (
            method,
            route.path_format.format(
                run="r1",
                approval="a1",
                letter="d1",
                model=MODEL,
                session=S1,
                key=S1,
                user=S1,
                namespace="shared/notes",
                item="i1",
            ),
        )
        for route in create_app(Fakes().parts()).routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    open_routes = {
        ("POST", "/auth/login"),
        ("POST", "/auth/refresh"),
        ("POST", "/auth/register"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/health/live"),
    }
    assert routes == open_routes | set(EVERY_CLOSED_ROUTE)


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/nothing", "/v1/runs/../../etc", "//"])
async def test_a_stranger_does_not_learn_which_paths_exist(path: str) -> None:
    async with Fakes().client(None) as client:
        assert (await client.get(path)).status_code == 401


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Basic dW1hOnB3", "Bearer nonsense", "Bearer a.b.c", "Token {token}"],
)
async def test_what_is_not_a_token_of_ours_is_refused(authorization: str) -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        headers = {"Authorization": authorization.replace("{token}", fakes.token())}
        assert (await client.get("/auth/validate", headers=headers)).status_code == 401


async def test_two_authorization_headers_are_refused() -> None:
    fakes = Fakes()
    headers = [("Authorization", f"Bearer {fakes.token()}")] * 2
    async with fakes.client(None) as client:
        assert (await client.get("/auth/validate", headers=headers)).status_code == 401


async def test_an_expired_token_is_refused_and_said_to_be_expired() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        fakes.now = NOW + timedelta(hours=2)
        answer = await client.get("/auth/validate")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="swarm", error="invalid_token"'
    assert "expired" in answer.json()["detail"]


async def test_the_token_of_another_swarm_is_refused() -> None:
    fakes = Fakes()
    async with fakes.client(None) as client:
        headers = {"Authorization": f"Bearer {Fakes().token()}"}
        assert (await client.get("/auth/validate", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/runs", {"objective": "x"}),
        ("/v1/runs/r1/cancel", {}),
        ("/v1/runs/r1/pause", {}),
        ("/v1/runs/r1/resume", {}),
        ("/v1/runs/r1/retry", {}),
        ("/v1/approvals/a1/approve", {}),
        ("/v1/approvals/a1/deny", {"reason": "x"}),
        ("/v1/dead-letters/d1/redrive", {}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ],
)
async def test_a_viewer_may_look_but_not_ask(path: str, body: dict[str, object]) -> None:
    fakes = Fakes()
    await submit(fakes.log)
    async with fakes.client("vic") as client:
        answer = await client.post(path, json=body)
        assert (await client.get("/v1/runs/r1")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200
    assert answer.status_code == 403
    assert answer.json()["code"] == "not_allowed"
    assert len(fakes.log.stored) == 1
    assert fakes.model.requests == []


async def test_anyone_may_ask_whether_it_lives() -> None:
    async with Fakes().client(None) as client:
        answer = await client.get("/health/live")
    assert (answer.status_code, answer.json()["status"]) == (200, "live")


async def test_readiness_names_the_parts_that_are_down() -> None:
    async def up() -> None:
        return

    async def in_part() -> str:
        return "outside answers"

    async def refused() -> None:
        raise ConnectionRefusedError("10.0.0.7:5432")

    async def silent() -> None:
        await asyncio.Event().wait()

    fakes = Fakes(probes={"nats": up})
    async with fakes.client() as client:
        ready = await client.get("/health/ready")
    assert ready.json() == {"status": "ready", "parts": {"nats": "up"}, "degraded": {}}
    fakes = Fakes(probes={"nats": up, "model": in_part})
    async with fakes.client() as client:
        degraded = (await client.get("/health/ready")).json()
    assert degraded == {
        "status": "degraded",
        "parts": {"model": "degraded", "nats": "up"},
        "degraded": {"model": "outside answers"},
    }
    fakes = Fakes(probes={"nats": up, "postgres": refused, "redis": silent})
    limits = fakes.parts().limits
    async with fakes.client(limits=type(limits)(probe_timeout_s=0.01)) as client:
        answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert [e["field"] for e in answer.json()["errors"]] == ["postgres", "redis"]
    assert "10.0.0.7" not in answer.text


async def test_the_openapi_document_says_what_needs_a_token() -> None:
    async with Fakes().client() as client:
        document = (await client.get("/openapi.json")).json()
    assert "security" not in document["paths"]["/auth/login"]["post"]
    assert document["paths"]["/v1/runs"]["post"]["security"] == [{"HTTPBearer": []}]


async def test_a_request_id_is_kept_if_it_is_plain_and_made_if_not() -> None:
    transport = httpx.ASGITransport(create_app(Fakes().parts()))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        kept = await client.get("/health/live", headers={"X-Request-ID": "abc-123"})
        made = await client.get("/health/live", headers={"X-Request-ID": "a b\tc"})
        problem = await client.get("/v1/models", headers={"X-Request-ID": "abc-123"})
    assert kept.headers["x-request-id"] == "abc-123"
    assert len(made.headers["x-request-id"]) == 16
    assert problem.json()["request_id"] == "abc-123"
    assert kept.headers["x-content-type-options"] == "nosniff"
