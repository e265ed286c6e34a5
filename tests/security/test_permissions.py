"""Every route for every role and every scope of an API key: who is let in, and who is not.

The table says what each route asks for. A route that is not in it fails the test.
"""

import pytest
from fastapi.routing import APIRoute

from policies.roles import PERMISSIONS, SCOPES, Permission, Role
from serve.access import OPEN
from serve.app import create_app
from tests.unit.serve.fakes import MODEL, Fakes, ask_approval, complete, give_up, submit

SOME_ID = "00000000-0000-0000-0000-0000000000aa"
P = Permission

ROUTES: dict[tuple[str, str], Permission | None] = {
    ("POST", "/auth/logout"): P.ACCOUNT_MANAGE,
    ("POST", "/auth/password"): P.ACCOUNT_MANAGE,
    ("GET", "/auth/sessions"): P.ACCOUNT_MANAGE,
    ("DELETE", "/auth/sessions/{session}"): P.ACCOUNT_MANAGE,
    ("GET", "/auth/api-keys"): P.API_KEY_MANAGE,
    ("POST", "/auth/api-keys"): P.API_KEY_MANAGE,
    ("DELETE", "/auth/api-keys/{key}"): P.API_KEY_MANAGE,
    ("GET", "/auth/validate"): None,
    ("GET", "/v1/users"): P.USER_MANAGE,
    ("POST", "/v1/users"): P.USER_MANAGE,
    ("PATCH", "/v1/users/{user}"): P.USER_MANAGE,
    ("GET", "/v1/runs"): P.RUN_READ,
    ("POST", "/v1/runs"): P.RUN_SUBMIT,
    ("GET", "/v1/runs/{run}"): P.RUN_READ,
    ("GET", "/v1/runs/{run}/events"): P.RUN_READ,
    ("GET", "/v1/runs/{run}/log"): P.RUN_READ,
    ("GET", "/v1/runs/{run}/audit"): P.AUDIT_READ,
    ("GET", "/v1/runs/{run}/evidence"): P.AUDIT_READ,
    ("GET", "/v1/audit/checkpoint"): P.AUDIT_READ,
    ("GET", "/v1/audit/inclusion"): P.AUDIT_READ,
    ("GET", "/v1/audit/consistency"): P.AUDIT_READ,
    ("POST", "/v1/runs/{run}/fork"): P.RUN_SUBMIT,
    ("POST", "/v1/runs/{run}/cancel"): P.RUN_CANCEL,
    ("POST", "/v1/runs/{run}/pause"): P.RUN_CONTROL,
    ("POST", "/v1/runs/{run}/resume"): P.RUN_CONTROL,
    ("POST", "/v1/runs/{run}/retry"): P.RUN_CONTROL,
    ("GET", "/v1/approvals"): P.RUN_READ,
    ("POST", "/v1/approvals/{approval}/approve"): P.RUN_APPROVE,
    ("POST", "/v1/approvals/{approval}/deny"): P.RUN_APPROVE,
    ("GET", "/v1/dead-letters"): P.RUN_READ,
    ("POST", "/v1/dead-letters/{letter}/redrive"): P.RUN_CONTROL,
    ("GET", "/v1/models"): P.MODEL_READ,
    ("GET", "/v1/models/{model}"): P.MODEL_READ,
    ("POST", "/v1/completions"): P.CHAT_COMPLETE,
    ("POST", "/v1/chat/completions"): P.CHAT_COMPLETE,
    ("POST", "/v1/embeddings"): P.EMBEDDING_CREATE,
    ("GET", "/v1/usage"): P.USAGE_READ,
    ("POST", "/v1/memory/search"): P.MEMORY_READ,
    ("GET", "/v1/memory/{namespace:path}/items"): P.MEMORY_READ,
    ("GET", "/v1/memory/{namespace:path}/export"): P.MEMORY_READ,
    ("GET", "/v1/memory/{namespace:path}/items/{item}"): P.MEMORY_READ,
    ("PUT", "/v1/memory/{namespace:path}/items/{item}"): P.MEMORY_WRITE,
    ("DELETE", "/v1/memory/{namespace:path}/items/{item}"): P.MEMORY_WRITE,
    ("POST", "/v1/memory/reindex"): P.MEMORY_MANAGE,
    ("POST", "/v1/memory/rebuild"): P.MEMORY_MANAGE,
    ("GET", "/health/ready"): None,
    ("GET", "/openapi.json"): None,
}
"""None: whoever is known at all."""

OF_RUNS = [
    (method, path)
    for method, path in ROUTES
    if "{run}" in path or "{approval}" in path or "{letter}" in path
]
NAMES = {Role.ADMIN: "ada", Role.USER: "uma", Role.VIEWER: "vic"}


def filled(path: str, **ids: str) -> str:
    known = dict.fromkeys(("session", "key", "user"), SOME_ID)
    known |= {"namespace": "shared/notes", "item": "i1"}
    return path.replace(":path}", "}").format(
        **{**known, "run": "r1", "approval": "a1", "letter": "d1", "model": MODEL, **ids}
    )


def body_for(path: str) -> dict[str, object]:
    if path.endswith("/deny"):
        return {"reason": "no"}
    if path.endswith("/fork"):
        return {"at": "1"}
    return {"objective": "x"} if path == "/v1/runs" else {}


async def status_of(fakes: Fakes, method: str, path: str, bearer: str) -> int:
    async with fakes.client(None) as client:
        answer = await client.request(
            method,
            path,
            json=body_for(path) if method in ("POST", "PUT", "PATCH") else None,
            headers={"Authorization": f"Bearer {bearer}"},
        )
    assert answer.status_code < 500, answer.text
    return answer.status_code


def test_the_table_has_every_route() -> None:
    routes = {
        (method, route.path)
        for route in create_app(Fakes().parts()).routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert routes == set(ROUTES) | OPEN


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_is_let_in_where_it_has_the_permission_and_nowhere_else(role: Role) -> None:
    fakes = await with_a_run()
    for (method, path), permission in ROUTES.items():
        status = await status_of(fakes, method, filled(path), fakes.token(NAMES[role]))
        allowed = permission is None or permission in PERMISSIONS[role]
        assert (status == 403) != allowed, (method, path, status)
        assert status != 401, (method, path)


@pytest.mark.parametrize("scope", sorted(SCOPES))
async def test_an_api_key_is_let_in_where_its_scope_says_and_nowhere_else(
    scope: Permission,
) -> None:
    fakes = await with_a_run()
    key = fakes.api_key("ada", scope)
    for (method, path), permission in ROUTES.items():
        status = await status_of(fakes, method, filled(path), key)
        assert (status == 403) != (permission in (None, scope)), (method, path, status)


@pytest.mark.parametrize("role", list(Role))
async def test_the_scopes_of_a_key_give_nothing_that_its_owners_role_has_not(role: Role) -> None:
    fakes = await with_a_run()
    key = fakes.api_key(NAMES[role], *Permission)
    for (method, path), permission in ROUTES.items():
        status = await status_of(fakes, method, filled(path), key)
        allowed = permission is None or permission in PERMISSIONS[role]
        assert status in (403, 409) if not allowed else status != 403, (method, path, status)


async def test_a_demotion_takes_a_key_with_it() -> None:
    fakes = await with_a_run()
    key = fakes.api_key("ada", "user.manage")
    assert await status_of(fakes, "GET", "/v1/users", key) == 200
    fakes.users.add("second", "admin", "h")
    await fakes.users.change(fakes.users.users["ada"].id, role="user")
    assert await status_of(fakes, "GET", "/v1/users", key) == 403


async def with_a_run() -> Fakes:
    fakes = Fakes()
    await submit(fakes.log)
    await complete(fakes.log, "r1")
    return fakes


async def crowd() -> Fakes:
    """uma has a run with a question and a dead letter; ulf is a user like her, vic and von
    are viewers of her tenant and of another."""
    fakes = Fakes()
    stored = fakes.users.users["uma"].password_hash
    fakes.users.add("ulf", "user", stored)
    fakes.users.add("von", "viewer", stored, tenant="red")
    await submit(fakes.log)
    return fakes


@pytest.mark.parametrize(("method", "path"), OF_RUNS)
async def test_the_run_of_somebody_else_is_as_unknown_as_one_that_is_not_there(
    method: str, path: str
) -> None:
    fakes = await crowd()
    ids = {"approval": await ask_approval(fakes.log), "letter": await give_up(fakes.log)}
    before = len(fakes.log.stored)
    answers = []
    async with fakes.client("ulf") as client:
        for found in (ids, {"approval": "a1", "letter": "d1", "run": "nowhere"}):
            body = body_for(path) if method == "POST" else None
            answer = await client.request(method, filled(path, **found), json=body)
            answers.append({**answer.json(), "request_id": None})
    assert answers[0]["status"] == 404
    assert answers[0] == answers[1]
    assert len(fakes.log.stored) == before


@pytest.mark.parametrize(
    ("name", "sees"), [("ada", True), ("uma", True), ("vic", True), ("ulf", False), ("von", False)]
)
async def test_lists_hold_what_one_may_see(name: str, *, sees: bool) -> None:
    fakes = await crowd()
    await ask_approval(fakes.log)
    await give_up(fakes.log)
    async with fakes.client(name) as client:
        runs = (await client.get("/v1/runs")).json()["runs"]
        approvals = (await client.get("/v1/approvals?status=all")).json()["approvals"]
        letters = (await client.get("/v1/dead-letters")).json()["dead_letters"]
    assert [len(runs), len(approvals), len(letters)] == [int(sees)] * 3


@pytest.mark.parametrize("suffix", ["", "/log", "/audit"])
@pytest.mark.parametrize(
    ("name", "status"), [("ada", 200), ("uma", 200), ("vic", 200), ("ulf", 404), ("von", 404)]
)
async def test_a_run_is_shown_to_whom_it_may_be(name: str, status: int, suffix: str) -> None:
    fakes = await crowd()
    async with fakes.client(name) as client:
        assert (await client.get(f"/v1/runs/r1{suffix}")).status_code == status


@pytest.mark.parametrize(("name", "status"), [("ada", 202), ("uma", 202), ("ulf", 404)])
async def test_a_run_is_touched_by_its_owner_and_by_admins(name: str, status: int) -> None:
    fakes = await crowd()
    async with fakes.client(name) as client:
        assert (await client.post("/v1/runs/r1/pause", json={})).status_code == status


async def test_a_run_from_before_runs_had_owners_is_the_admins_only() -> None:
    fakes = await crowd()
    await submit(fakes.log, "old", by="uma")
    async with fakes.client("uma") as client:
        assert (await client.get("/v1/runs/old")).status_code == 404
    async with fakes.client("ada") as client:
        assert (await client.get("/v1/runs/old")).status_code == 200
