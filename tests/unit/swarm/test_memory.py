"""The memory over the SDK."""

import json
from datetime import UTC, datetime

import httpx
import pytest

from serve.app import create_app
from swarm import Swarm
from swarm.errors import MemoryConflict, MemoryPending, NotAllowed, NotFound, Refused
from tests.unit.serve.fakes import BASE_URL, PASSWORD, Fakes
from tests.unit.swarm.gateways import connected


async def test_what_is_written_is_read_listed_and_found() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        one = await swarm.memory.write("shared/notes", "a", "A token bucket.", base=0)
        two = await swarm.memory.write(
            "shared/notes", "b", "Made of it.", metadata={"n": 1}, derived_from=[one]
        )
        assert two.derived_from is not None
        assert [each.item for each in two.derived_from] == ["a"]
        assert await swarm.memory.read("shared/notes", "b") == two
        assert [item.item async for item in swarm.memory.list()] == ["a", "b"]
        assert len([line async for line in swarm.memory.export("shared/notes")]) == 2
        found = await swarm.memory.search("bucket.")
        assert (found.recall, [each.item.item for each in found.found]) == ("hybrid", ["a"])
        await swarm.memory.delete("shared/notes", "a", base=1)
        with pytest.raises(NotFound):
            await swarm.memory.read("shared/notes", "a")
        with pytest.raises(NotAllowed):
            await swarm.memory.write("role/coder/notes", "a", "x")


async def test_a_search_is_narrowed() -> None:
    fakes = Fakes()
    last = datetime(9999, 1, 1, tzinfo=UTC)
    async with await connected(fakes) as swarm:
        search = swarm.memory.search
        await swarm.memory.write("shared/notes", "a", "a bucket", metadata={"lang": "en"})
        await swarm.memory.write("shared/notes", "b", "a bucket")
        for result, found in (
            (await search("bucket", metadata={"lang": "en"}, run="memory"), ["a"]),
            (await search("bucket", metadata={"lang": None}), []),
            (await search("bucket", author="gateway/gateway-1", before=last), ["a", "b"]),
            (await search("bucket", since=last), []),
        ):
            assert [each.item.item for each in result.found] == found
        with pytest.raises(Refused):
            await search("bucket", author="nobody")


async def test_an_export_has_one_line_for_each_item_whatever_it_says() -> None:
    """JSON leaves these as they are, and str.splitlines takes them for ends of lines."""
    said = ["one\u2028two\u2029three", "four\x85five\x0bsix\nseven\r\neight"]
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        for number, content in enumerate(said):
            await swarm.memory.write("shared/notes", str(number), content)
        lines = [json.loads(line) async for line in swarm.memory.export("shared/notes")]
    assert [line["content"] for line in lines] == said


async def test_a_conflict_holds_both_versions() -> None:
    fakes = Fakes()
    async with await connected(fakes) as swarm:
        await swarm.memory.write("shared/notes", "a", "one")
        for conflicting in (
            swarm.memory.write("shared/notes", "a", "two", base=0),
            swarm.memory.delete("shared/notes", "a", base=0),
        ):
            with pytest.raises(MemoryConflict) as raised:
                await conflicting
            assert raised.value.base == 0
            assert raised.value.current is not None
            assert (raised.value.current.version, raised.value.current.content) == (1, "one")


async def test_a_write_that_is_pending_is_asked_for_again_with_its_key() -> None:
    fakes = Fakes()
    fakes.memory.is_away = True
    async with await connected(fakes) as swarm:
        with pytest.raises(MemoryPending) as raised:
            await swarm.memory.write("shared/notes", "a", "one", idempotency_key="k")
        fakes.memory.is_away = False
        written = await swarm.memory.write("shared/notes", "a", "one", idempotency_key="k")
        assert written.event == raised.value.event
        fakes.memory.is_away = True
        with pytest.raises(MemoryPending):
            await swarm.memory.delete("shared/notes", "a")


async def test_an_admin_has_it_made_anew() -> None:
    fakes = Fakes()
    async with await connected(fakes, name="ada") as swarm:
        assert await swarm.memory.reindex() == 0
        await swarm.memory.rebuild()
    assert fakes.memory.upkeep == ["reindex", "rebuild"]


def test_it_works_without_asyncio() -> None:
    fakes = Fakes()
    transport = httpx.ASGITransport(create_app(fakes.parts()))
    with Swarm.connect(BASE_URL, username="ada", password=PASSWORD, transport=transport) as swarm:
        swarm.memory.write("shared/notes", "a", "one")
        assert swarm.memory.read("shared/notes", "a").content == "one"
        assert [item.item for item in swarm.memory.list()] == ["a"]
        assert len(list(swarm.memory.export())) == 1
        assert swarm.memory.search("one").found[0].score == 0.5
        assert swarm.memory.search("one", metadata={"lang": "en"}).found == ()
        swarm.memory.delete("shared/notes", "a")
        assert swarm.memory.reindex() == 1
        swarm.memory.rebuild()
