"""Keys of a running swarm: listed, rotated, revoked; and nowhere to be seen."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from bus.event import StoredEvent
from bus.received import Received, RefusedEvent
from bus.subjects import ALL_EVENTS
from bus.trust_payloads import AuthorityRotated, IdentityRevoked, RootRotated
from cluster import keys
from cluster.home import locate
from cluster.keys import KnownKey
from cluster.settings import Settings
from swarm import AsyncSwarm
from swarm.cli.reading import observed_log
from tests.commands import Shell
from tests.secrets import Place, logs_of, modes, secrets_of, seen, told_by

pytestmark = pytest.mark.timeout(300)
OBJECTIVE = "Design a rate limiter for a public HTTP API"
_STATE_API = (
    "api/v0/actors?detail=1&limit=10000",
    "api/v0/tasks?detail=1&limit=10000",
    "api/v0/workers?detail=1&limit=10000",
    "api/v0/jobs",
    "api/v0/runtime_envs?detail=1&limit=10000",
    "api/serve/applications/",
    "logical/actors",
)


async def done(client: AsyncSwarm) -> None:
    run = await client.submit(OBJECTIVE)
    status = await run.wait(90)
    assert status.status == "completed", status.failure


async def whole_log(shell: Shell) -> AsyncIterator[Received]:
    async with (
        observed_log(Settings(home=shell.home)) as log,
        aclosing(log.read(ALL_EVENTS)) as events,
    ):
        async for each in events:
            yield each


async def keys_of(shell: Shell, name: str) -> list[KnownKey]:
    known = await keys.keys_of(Settings(home=shell.home))
    return [key for key in known if key.name == name]


async def until_a_new_key(shell: Shell, name: str, old: set[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            if {key.public_key for key in await keys_of(shell, name)} - old:
                return
            await asyncio.sleep(0.2)


async def test_everything_is_rotated_while_jobs_are_done(shell: Shell, client: AsyncSwarm) -> None:
    running = asyncio.gather(*(done(client) for _ in range(3)))
    coder = {key.public_key for key in await keys_of(shell, "coder-1")}
    for command in (
        ("rotate", "authority"),
        ("rotate", "authority", "--now"),
        ("rotate", "agent", "coder-1"),
        ("rotate", "root"),
    ):
        outcome = await shell.swarm("keys", *command, "--reason", "a test")
        assert outcome.code == 0, outcome
    await running
    await until_a_new_key(shell, "coder-1", coder)
    await done(client)


@pytest.mark.parametrize("name", ["critic-1", "gateway"])
async def test_a_revoked_member_is_out_until_it_is_enrolled_again(
    shell: Shell, client: AsyncSwarm, name: str
) -> None:
    before = {key.public_key for key in await keys_of(shell, name)}
    revoked = await shell.swarm("keys", "revoke", name, "--reason", "stolen")
    assert revoked.code == 0, revoked
    out = [key for key in await keys_of(shell, name) if key.public_key in before]
    assert any(key.revoked for key in out)
    assert not any(key.counts(datetime.now(UTC)) for key in out)  # those of the killed are over
    enrolled = await shell.swarm("keys", "enrol", name)
    assert enrolled.code == 0, enrolled
    await until_a_new_key(shell, name, before)
    while (await shell.swarm("status")).code != 0:
        continue  # the gateway opens its parts
    await done(client)


async def test_the_keys_are_listed_and_one_that_is_not_there_is_a_mistake(shell: Shell) -> None:
    listed, unknown = await asyncio.gather(
        shell.swarm("keys", "list", "--json"),
        shell.swarm("keys", "revoke", "nobody", "--reason", "x"),
    )
    keys = {key["name"]: key for key in json.loads(listed.out)["keys"]}
    assert {"coordinator", "gateway", "coder-1", "authority"} <= set(keys)
    assert keys["coordinator"].keys() == {
        "key", "role", "name", "announced", "expires", "revoked",
    }  # fmt: skip
    assert unknown.code == 2, unknown


async def test_the_whole_log_verifies_afterwards_and_tells_of_it(shell: Shell) -> None:
    received = [each async for each in whole_log(shell)]
    assert [each.error for each in received if isinstance(each, RefusedEvent)] == []
    types = [each.event.type for each in received if isinstance(each, StoredEvent)]
    assert types.count(AuthorityRotated.TYPE) >= 3
    assert {RootRotated.TYPE, IdentityRevoked.TYPE} <= set(types)


async def test_a_run_after_all_that_is_proven_to_who_has_the_first_root_key_or_the_last(
    shell: Shell, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle.json"
    run = json.loads((await shell.swarm("run", OBJECTIVE, "--json")).out)
    exported = await shell.swarm("audit", "export", run["id"], "--out", str(bundle))
    assert exported.code == 0, exported
    first, last = [
        (await shell.swarm("audit", "root-key", *which)).out.strip() for which in (("--first",), ())
    ]
    assert first != last
    for root in (first, last):
        proven = await shell.swarm("verify", str(bundle), "--root-key", root)
        assert f"PROVEN. Run {run['id']}" in proven.out, proven


async def test_no_secret_is_in_a_log_an_environment_an_event_or_what_ray_shows(
    shell: Shell,
) -> None:
    home = locate(shell.home)
    secrets = secrets_of(home.keys)
    assert len(secrets) > 8
    assert modes(home.keys) == {0o600}
    assert seen(secrets, logs_of(home)) == []
    assert seen(secrets, told_by(shell.processes())) == []
    assert seen(secrets, [each async for each in _events(shell)]) == []
    assert seen(secrets, await _shown_by_ray(shell)) == []


async def _events(shell: Shell) -> AsyncIterator[Place]:
    async for each in whole_log(shell):
        message = each.event if isinstance(each, StoredEvent) else each
        yield f"event {each.stream_sequence}", repr(message.headers).encode() + message.data


async def _shown_by_ray(shell: Shell) -> list[Place]:
    status = json.loads((await shell.swarm("status", "--json")).out)
    token = locate(shell.home).ray_token().read_text().strip()
    url = status["parts"]["dashboard"]["address"]
    places = []
    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120
    ) as http:
        for path in _STATE_API:
            answer = await http.get(f"/{path}")
            assert answer.status_code == 200, (path, answer.text[:300])
            places.append((path, answer.content))
    return places
