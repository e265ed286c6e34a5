# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""Items of names that no new item gets, as an earlier version or a member by itself wrote them."""

import pytest

from actors.errors import ItemNameTaken
from bus.log import EventLog
from bus.memory_payloads import TAKEN, ItemReference, MemoryWritten
from bus.subjects import subject_for
from storage.postgres import Pool
from tests.broker import Broker
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
    valkey,
)
from tests.integration.test_memory import (  # noqa: F401 - fixtures
    gateway,
    memory,
    on_a_step,
    passed_on,
)
from tests.keeping import Keeping, deleting, writing

pytestmark = pytest.mark.timeout(120)
_ROWS = "select row_to_json(m)::text as row from memory m order by namespace, item, version"


async def test_an_agent_recalls_reads_lists_and_deletes_them(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    async with broker.joined("coder", "coder-1") as coder:
        own = await on_a_step(memory, gateway, broker, coder)
        for name in TAKEN:
            written = writing(name, "a token bucket", namespace="role/coder/notes", run="run1")
            await memory.written(coder, written)
        await passed_on(memory)
        references = [
            ItemReference(namespace="role/coder/notes", item=name, version=1)
            for name in sorted(TAKEN)
        ]
        assert {item.item for item in await own.recall("token bucket")} == set(TAKEN)
        assert sorted(own.recalled, key=str) == references
        assert list(await own.list("role/coder")) == references
        for name in TAKEN:
            assert await own.read("role/coder/notes", name) is not None
            assert (await own.delete("role/coder/notes", name)).is_applied
        assert await own.list("role/coder") == ()


async def test_an_agent_writes_none(memory: Keeping, gateway: EventLog, broker: Broker) -> None:
    async with broker.joined("coder", "coder-1") as coder:
        own = await on_a_step(memory, gateway, broker, coder)
        for name in TAKEN:
            with pytest.raises(ItemNameTaken, match=name):
                await own.write("role/coder/notes", name, "text")
        assert await coder.last_on(subject_for("run1", MemoryWritten.TYPE)) is None
        assert (await own.write("role/coder/notes", "a", "text")).is_applied


async def test_they_come_back_the_same_from_the_log(
    memory: Keeping, gateway: EventLog, pool: Pool
) -> None:
    for name in TAKEN:
        for text in ("one", "two"):
            assert (await memory.written(gateway, writing(name, text)))[1].is_applied
    _, late = await memory.written(gateway, writing("items", "late", base=1))
    assert late.refusal == "conflict"
    assert (await memory.written(gateway, deleting("export")))[1].is_applied
    before = await pool.fetch(_ROWS)
    assert len(before) == 5
    await memory.keeper.rebuild()
    assert await pool.fetch(_ROWS) == before
