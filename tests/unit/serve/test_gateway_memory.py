"""The memory over HTTP."""

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from bus.memory_payloads import MemoryDeleted, MemoryWritten
from serve.part_states import BY_WORDS, HELD_UP, memory_state
from storage.run_owners import RunOwner
from tests.unit.serve.fakes import UMA, Fakes, submit

NOTES = "/v1/memory/shared/notes/items"
OWN = f"/v1/memory/user/{UMA}/notes/items"


async def put(client: httpx.AsyncClient, path: str, content: str = "text", **more: Any) -> Any:
    headers = more.pop("headers", {})
    return await client.put(path, json={"content": content, **more}, headers=headers)


async def test_a_write_is_a_signed_event_for_its_user_and_the_item_that_it_made() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        made = await put(client, f"{NOTES}/a", "A token bucket.", reason="review", base=0)
        read = await client.get(f"{NOTES}/a")
    (stored,) = fakes.log.stored
    written = stored.payload()  # type: ignore[union-attr]
    assert isinstance(written, MemoryWritten)
    assert (written.namespace, written.content, written.base) == (
        *("shared/notes", "A token bucket.", 0),
    )
    assert (stored.event.run, stored.event.on_behalf_of) == ("memory", UMA)  # type: ignore[union-attr]
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    body = made.json()
    assert body["event"] == stored.event.id  # type: ignore[union-attr]
    assert (body["author"], body["on_behalf_of"], body["reason"]) == (
        *("gateway/gateway-1", UMA, "review"),
    )
    assert (read.status_code, read.json(), read.headers["etag"]) == (200, body, '"1"')


async def test_a_write_that_saw_another_version_is_told_both() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        await put(client, f"{NOTES}/a", "one")
        assert (await put(client, f"{NOTES}/a", "two", base=1)).status_code == 200
        late = await put(client, f"{NOTES}/a", "mine", headers={"If-Match": '"1"'})
        gone = await client.delete(f"{NOTES}/a?base=1")
        new = await put(client, f"{NOTES}/a", "mine", base=0)
    for answer, base in ((late, 1), (gone, 1), (new, 0)):
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (409, "version_conflict")
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["conflict"]["base"], problem["conflict"]["version"]) == (base, 2)
        current = problem["conflict"]["current"]
        assert (current["version"], current["content"]) == (2, "two")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": ""},
        {"content": "a\0b"},
        {"content": "x", "reason": "\0"},
        {"content": "x", "kind": "session"},
        {"content": "x", "kind": "other"},
        {"content": "x", "base": -1},
        {"content": "x", "base": 2**63},
        {
            "content": "x",
            "derived_from": [{"namespace": "shared/x", "item": "a", "version": 2**63}],
        },
        {"content": "x", "metadata": {"a": "\0"}},
        {"content": "x", "metadata": {"a": "y" * 20_000}},
        {"content": "x", "ttl_s": 0},
        {"content": "x" * 40_000},
    ],
)
async def test_what_cannot_be_stored_is_refused(body: dict[str, Any]) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.put(f"{NOTES}/a", json=body)
    assert answer.status_code == 422
    assert fakes.log.stored == []


@pytest.mark.parametrize(
    "metadata",
    [b'{"a": NaN}', rb'{"a": "\ud83d"}', rb'{"\ud83d": 1}', rb'{"a": [{"b": "\ude00"}]}'],
)
async def test_what_utf_8_or_json_has_not_is_refused(metadata: bytes) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.put(
            f"{NOTES}/a",
            content=b'{"content": "x", "metadata": %b}' % metadata,
            headers={"Content-Type": "application/json"},
        )
    assert answer.status_code in (400, 422)
    assert fakes.log.stored == []


@pytest.mark.parametrize("if_match", ["3", "*", '"x"', '"2"'])
async def test_an_if_match_that_is_none_or_another_is_refused(if_match: str) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await put(client, f"{NOTES}/a", base=3, headers={"If-Match": if_match})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "If-Match")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("uma", "/v1/memory/role/coder/notes/items/a"),
        ("uma", "/v1/memory/run/r1/notes/items/a"),
        ("uma", "/v1/memory/user/other/notes/items/a"),
        ("ada", f"{OWN}/a"),
        ("vic", f"{NOTES}/a"),
    ],
)
async def test_nobody_writes_where_they_may_not(name: str, path: str) -> None:
    fakes = Fakes()
    async with fakes.client(name) as client:
        assert (await put(client, path)).status_code == 403
    assert fakes.log.stored == []


async def test_who_is_forgotten_leaves_nothing_behind() -> None:
    fakes = Fakes()
    fakes.log.forgotten.add(UMA)
    async with fakes.client() as client:
        assert (await put(client, f"{OWN}/a")).status_code == 403
    assert fakes.log.stored == []


async def test_what_is_not_theirs_is_as_unknown_as_what_is_not_there() -> None:
    fakes = Fakes()
    stored = fakes.users.users["uma"].password_hash
    fakes.users.add("ulf", "user", stored)
    await submit(fakes.log)
    async with fakes.client() as client:
        await put(client, f"{OWN}/a")
    answers = []
    async with fakes.client("ulf") as client:
        for path in (
            *(f"{OWN}/a", f"{OWN}/nothing", f"{NOTES}/nothing"),
            *("/v1/memory/run/r1/notes/items/a", "/v1/memory/run/r9/notes/items/a"),
            *("/v1/memory/nowhere/notes/items/a", "/v1/memory/run/memory/notes/items/a"),
        ):
            answers += [await client.get(path), await client.delete(path)]
        for path in (OWN, f"/v1/memory/user/{UMA}/export", "/v1/memory/run/r1/items"):
            answers.append(await client.get(path))
        body = {"query": "text", "namespaces": ["shared", f"user/{UMA}"]}
        answers.append(await client.post("/v1/memory/search", json=body))
    bodies = [{**answer.json(), "request_id": None} for answer in answers]
    assert bodies[0]["status"] == 404
    assert all(body == bodies[0] for body in bodies)


async def test_an_admin_looks_at_other_people_and_changes_nothing() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        await put(client, f"{OWN}/a", "hers")
    async with fakes.client("ada") as client:
        assert (await client.get(f"{OWN}/a")).json()["content"] == "hers"
        assert (await client.delete(f"{OWN}/a")).status_code == 403
        found = await client.post("/v1/memory/search", json={"query": "hers"})
    assert [each["item"]["content"] for each in found.json()["found"]] == ["hers"]


async def test_a_tenant_sees_its_own_memory_only() -> None:
    fakes = Fakes()
    stored = fakes.users.users["uma"].password_hash
    fakes.users.add("rex", "admin", stored, tenant="red")
    async with fakes.client() as client:
        await put(client, f"{NOTES}/a", "ours")
    async with fakes.client("rex") as client:
        assert (await client.get(f"{NOTES}/a")).status_code == 404
        assert (await client.get(f"{OWN}/a")).status_code == 404
        assert (await client.get("/v1/memory/user/items")).json()["items"] == []
        assert (await put(client, f"{NOTES}/a", "theirs", base=0)).status_code == 201
    async with fakes.client() as client:
        assert (await client.get(f"{NOTES}/a")).json()["content"] == "ours"
    assert fakes.log.stored[-1].event.run != "memory"  # type: ignore[union-attr]


async def test_what_belongs_to_a_run_is_for_whom_sees_the_run() -> None:
    fakes = Fakes()
    fakes.users.add("von", "viewer", fakes.users.users["uma"].password_hash, tenant="red")
    fakes.owners.owners["r1"] = RunOwner(user=UMA, tenant="default")
    for name, status in (("uma", 200), ("vic", 200), ("ada", 200), ("von", 404)):
        async with fakes.client(name) as client:
            assert (await client.get("/v1/memory/run/r1/items")).status_code == status, name


async def test_a_deleted_item_is_gone_and_may_be_written_anew() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        await put(client, f"{NOTES}/a")
        gone = await client.delete(f"{NOTES}/a?reason=done", headers={"If-Match": '"1"'})
        again = await client.delete(f"{NOTES}/a")
        read = await client.get(f"{NOTES}/a")
        new = await put(client, f"{NOTES}/a", base=0)
    assert [answer.status_code for answer in (gone, again, read, new)] == [204, 404, 404, 201]
    deleted = fakes.log.of_kind("memory.deleted")[0].payload()
    assert isinstance(deleted, MemoryDeleted)
    assert (deleted.base, deleted.reason) == (1, "done")


async def test_a_repeat_with_the_same_key_is_the_same_write() -> None:
    fakes = Fakes()
    key = {"Idempotency-Key": "k1"}
    async with fakes.client() as client:
        first = await put(client, f"{NOTES}/a", "one", headers=key)
        await put(client, f"{NOTES}/a", "two")
        again = await put(client, f"{NOTES}/a", "one", headers=key)
        other = await put(client, f"{NOTES}/a", "three", headers=key)
        gone = [await client.delete(f"{NOTES}/a", headers=key) for _ in range(2)]
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    assert [answer.status_code for answer in gone] == [204, 204]
    assert len(fakes.log.of_kind("memory.written")) == 2


async def test_a_write_that_nobody_looked_at_yet_is_pending() -> None:
    fakes = Fakes()
    key = {"Idempotency-Key": "k1"}
    async with fakes.client() as client:
        await put(client, f"{NOTES}/b")
        fakes.memory.is_away = True
        waits = await put(client, f"{NOTES}/a", headers=key)
        gone = await client.delete(f"{NOTES}/b")
        fakes.memory.is_away = False
        then = await put(client, f"{NOTES}/a", headers=key)
    assert (waits.status_code, gone.status_code) == (202, 202)
    assert waits.json() == {"status": "pending", "event": then.json()["event"]}
    assert then.status_code == 201


async def test_a_session_is_read_from_where_it_is_kept_and_from_postgres_without() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        await put(client, f"{NOTES}/a", "kept", kind="session", ttl_s=600)
        (item,) = fakes.memory.items("default")
        until = fakes.now + timedelta(seconds=600)
        kept = replace(item, expires_at=until)
        fakes.memory.sessions["default", "shared/notes", "a"] = kept
        fakes.memory.versions.clear()
        assert (await client.get(f"{NOTES}/a")).json()["degraded"] is False
        fakes.memory.versions["default", "shared/notes", "a"] = [item]
        fakes.memory.sessions_away = True
        assert (await client.get(f"{NOTES}/a")).json()["degraded"] is True
        assert (await put(client, f"{NOTES}/a", "anew")).status_code == 200
        fakes.memory.sessions_away = False
        assert (await put(client, f"{NOTES}/a", "again")).status_code == 200
    assert fakes.memory.sessions == {}


async def test_a_list_goes_page_by_page_and_an_export_is_all_of_it() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        for name in ("a", "b", "c"):
            await put(client, f"{NOTES}/{name}", name)
        await put(client, "/v1/memory/shared/log/items/d", "d", kind="episodic")
        seen, after = [], ""
        while True:
            page = (
                await client.get("/v1/memory/shared/items", params={"limit": 3, "after": after})
            ).json()
            seen += [(item["namespace"], item["item"]) for item in page["items"]]
            if page["next"] is None:
                break
            after = page["next"]
        of_kind = await client.get("/v1/memory/shared/items?kind=episodic")
        export = await client.get("/v1/memory/shared/export")
        nothing = await client.get("/v1/memory/shared/nothing/export")
    assert seen == [("shared/log", "d"), *(("shared/notes", each) for each in "abc")]
    assert [item["item"] for item in of_kind.json()["items"]] == ["d"]
    lines = [json.loads(line) for line in export.text.splitlines()]
    assert [(line["namespace"], line["item"]) for line in lines] == seen
    assert export.headers["content-type"].startswith("application/x-ndjson")
    assert (nothing.status_code, nothing.text) == (200, "")


async def test_a_search_says_how_it_was_done() -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        await put(client, f"{NOTES}/a", "a token bucket")
        await put(client, f"{OWN}/a", "my bucket")
        hybrid = await client.post("/v1/memory/search", json={"query": "bucket"})
        fakes.memory.is_away = True
        keyword = await client.post("/v1/memory/search", json={"query": "bucket", "limit": 1})
        bad = await client.post("/v1/memory/search", json={"query": "\0"})
    assert fakes.memory.asked == [("bucket", ("shared", "role", f"user/{UMA}"), "memory")]
    found = [each["item"]["content"] for each in hybrid.json()["found"]]
    assert found == ["a token bucket", "my bucket"]
    assert (hybrid.json()["recall"], hybrid.json()["degraded"]) == ("hybrid", False)
    assert (keyword.json()["recall"], keyword.json()["degraded"]) == ("keyword", True)
    assert len(keyword.json()["found"]) == 1
    assert bad.status_code == 422


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_search_is_narrowed(
    is_away: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        await put(client, f"{NOTES}/a", "a bucket", metadata={"lang": "en", "n": 1})
        await put(client, f"{NOTES}/b", "a bucket", metadata={"lang": "de"})
        fakes.memory.is_away = is_away
        for filters, found in (
            ({}, ["a", "b"]),
            ({"metadata": {"lang": "en"}}, ["a"]),
            ({"author": "gateway/gateway-1", "run": "memory"}, ["a", "b"]),
            ({"author": "coder/coder-1"}, []),
            ({"run": "other"}, []),
            ({"since": "9999-01-01T00:00:00Z"}, []),
            ({"before": "9999-01-01T00:00:00Z"}, ["a", "b"]),
        ):
            body = {"query": "bucket", "filters": filters}
            answer = (await client.post("/v1/memory/search", json=body)).json()
            assert [each["item"]["item"] for each in answer["found"]] == found, filters


@pytest.mark.parametrize(
    "filters",
    [
        {"author": "coder"},
        {"since": "2026-11-01"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"metadata": {"a": "\0"}},
        {"metadata": {"a": []}},
        {"metadata": {str(n): n for n in range(9)}},
        {"other": "x"},
    ],
)
async def test_a_search_cannot_be_narrowed_to_nonsense(filters: dict[str, Any]) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.post("/v1/memory/search", json={"query": "x", "filters": filters})
    assert answer.status_code == 422
    assert fakes.memory.asked == []


async def test_an_admin_has_it_made_anew() -> None:
    fakes = Fakes()
    async with fakes.client("ada") as client:
        assert (await client.post("/v1/memory/reindex")).json() == {"items": 0}
        assert (await client.post("/v1/memory/rebuild")).status_code == 204
        fakes.memory.is_away = True
        for what in ("reindex", "rebuild"):
            assert (await client.post(f"/v1/memory/{what}")).status_code == 504
    assert fakes.memory.upkeep == ["reindex", "rebuild"]


async def test_an_admin_is_told_why_it_cannot_be_made_anew() -> None:
    fakes = Fakes()
    fakes.memory.is_sealed = True
    async with fakes.client("ada") as client:
        answer = await client.post("/v1/memory/rebuild")
    assert answer.status_code == 503
    assert "Nothing was changed: event e7 of run r7 is sealed. " in answer.json()["detail"]
    assert fakes.memory.upkeep == []


async def test_health_shows_a_memory_that_is_held_up_or_without_its_index_as_degraded() -> None:
    fakes = Fakes()
    fakes.probes["memory"] = partial(memory_state, fakes.memory.ports().keeping, deadline_s=1)
    async with fakes.client() as client:
        assert (await client.get("/health/ready")).json()["parts"] == {"memory": "up"}
        fakes.memory.follows = False
        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["degraded"] == {"memory": BY_WORDS}
        fakes.memory.keeps_up = False
        answer = await client.get("/health/ready")
        assert answer.status_code == 200
        assert answer.json()["degraded"] == {"memory": HELD_UP}
        fakes.memory.is_away = True
        assert (await client.get("/health/ready")).status_code == 503
