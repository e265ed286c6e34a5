"""The memory in Postgres: versions, conflicts, quarantines, erasure, expiry, keyword search."""

from dataclasses import replace
from datetime import timedelta

import pytest

from storage.memory_change import Deny, MemoryChange, Version, Write
from storage.memory_filter import MemoryFilters
from storage.memory_item import MemoryItem
from storage.memory_outbox import MemoryOutbox
from storage.memory_projection import MemoryProjection
from storage.postgres import Pool
from tests.integration.storage.remembering import BEGAN, TENANT, Remembering, scope, version


@pytest.fixture
def memory(pool: Pool) -> Remembering:
    return Remembering(pool)


async def test_a_write_is_read_as_it_was_written(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "first", sources=(version("b", 3),)))
    found = await memory.read("a")
    assert found is not None
    assert (found.version, found.content, found.author) == (1, "first", "coder/coder-1")
    assert (found.event, found.place, found.run) == ("e1", 1, "r1")
    assert found.sources == (version("b", 3),)
    assert await memory.read("b") is None


async def test_each_write_makes_the_next_version_and_only_the_last_is_seen(
    memory: Remembering,
) -> None:
    await memory.apply(*(memory.written("a", text) for text in ("one", "two", "three")))
    assert (await memory.content("a")) == "three"
    items = [item async for item in memory.reader.all(scope(), now=memory.now)]
    assert [(item.item, item.version) for item in items] == [("a", 3)]


async def test_who_saw_another_version_is_refused_and_told_which_there_is(
    memory: Remembering,
) -> None:
    await memory.apply(
        memory.written("a", "one", base=0),
        memory.written("a", "two", base=1),
        memory.written("a", "late", base=1),
        memory.written("a", "created twice", base=0),
    )
    assert await memory.content("a") == "two"
    assert await memory.refusals() == [("e3", "conflict", 2), ("e4", "conflict", 2)]
    outcome = await memory.reader.outcome("e3")
    assert (outcome.place, outcome.is_applied, outcome.refusal, outcome.version) == (
        *(4, False),
        *("conflict", 2),
    )
    assert (await memory.reader.outcome("e2")).is_applied


async def test_a_refusal_is_told_once(memory: Remembering) -> None:
    denied = Deny(cause=memory.cause(), namespace="shared/notes", item="a")
    await memory.apply(denied)
    [refusal] = await memory.projection.untold(10)
    assert (refusal.code, refusal.run, refusal.base) == ("denied", "r1", None)
    await memory.projection.told([refusal])
    assert await memory.projection.untold(10) == []


async def test_a_deleted_item_can_be_written_again(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "one"), memory.written("a", None, base=1))
    assert await memory.read("a") is None
    await memory.apply(memory.written("a", "again", base=0))
    found = await memory.read("a")
    assert found is not None
    assert (found.version, found.content) == (3, "again")


async def test_deleting_what_is_not_there_changes_nothing(memory: Remembering) -> None:
    await memory.apply(memory.written("a", None), memory.written("a", "one", base=0))
    found = await memory.read("a")
    assert found is not None
    assert found.version == 1


async def test_a_batch_that_comes_again_is_passed_over(memory: Remembering) -> None:
    changes = [memory.written("a", "one"), memory.written("a", "two")]
    await memory.apply(*changes)
    await memory.apply(*changes, memory.written("a", "three"))
    found = await memory.read("a")
    assert found is not None
    assert (found.version, found.content) == (3, "three")
    assert await memory.projection.place() == 3


async def test_a_quarantine_hides_what_an_agent_wrote_and_what_was_made_from_it(
    memory: Remembering,
) -> None:
    await memory.apply(
        memory.written("good", "by another", author="critic/critic-1"),
        memory.written("good", "poisoned", author="coder/coder-1"),
        memory.written("early", "before", author="coder/coder-1"),
        memory.written("copy", "made from it", author="critic/critic-1",
                       sources=(version("good", 2),)),
        memory.written("deep", "made from that", author="judge/judge-1",
                       sources=(version("copy", 1),)),
        memory.written("other", "innocent", author="judge/judge-1"),
    )  # fmt: skip
    quarantine = memory.quarantine("coder/coder-1", since=2)
    await memory.apply(quarantine)
    seen = {item: await memory.content(item) for item in ("good", "copy", "deep", "other", "early")}
    assert seen == {
        "good": "by another",
        "copy": None,
        "deep": None,
        "other": "innocent",
        "early": None,
    }
    later = memory.written("later", "from a hidden one", sources=(version("copy", 1),))
    await memory.apply(later)
    assert await memory.content("later") is None
    await memory.apply(memory.release(quarantine))
    assert await memory.content("good") == "poisoned"
    assert await memory.content("deep") == "made from that"
    assert await memory.content("later") == "from a hidden one"


async def test_what_was_written_on_a_hidden_version_is_hidden_too(memory: Remembering) -> None:
    await memory.apply(
        memory.written("a", "poisoned", author="coder/coder-1"),
        memory.written("a", "poisoned, and more", base=1, author="critic/critic-1"),
    )
    await memory.apply(memory.quarantine("coder/coder-1", since=1))
    assert await memory.read("a") is None


async def test_a_quarantine_does_not_reach_what_was_written_after_it(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "bad"))
    await memory.apply(memory.quarantine("coder/coder-1", since=1))
    await memory.apply(memory.written("a", "by a sound one", base=0))
    assert await memory.content("a") == "by a sound one"


async def test_what_two_quarantines_hide_takes_two_releases(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "bad"))
    first = memory.quarantine("coder/coder-1", since=1)
    second = memory.quarantine("coder/coder-1", since=1)
    await memory.apply(first, second, memory.release(first))
    assert await memory.content("a") is None
    await memory.apply(memory.release(second))
    assert await memory.content("a") == "bad"


async def test_nothing_is_kept_of_a_person_who_is_forgotten(memory: Remembering) -> None:
    await memory.apply(
        memory.written("hers", "about ada", subject="ada"),
        memory.written("ours", "by bob", subject="bob"),
        memory.written("ours", "by ada", subject="ada"),
    )
    await memory.apply(memory.forget("ada"))
    assert await memory.content("hers") is None
    assert await memory.content("ours") == "by bob"
    left = await memory.pool.fetchval("select count(*) from memory where content like '%ada%'")
    assert left == 0


async def test_what_a_forgotten_person_deleted_stays_deleted(memory: Remembering) -> None:
    await memory.apply(
        memory.written("a", "by bob", subject="bob"),
        replace(memory.written("a", None, subject="ada"), reason="ada wants it away"),
        memory.written("a", "by ada", subject="ada"),
        memory.forget("ada"),
    )
    assert await memory.read("a") is None
    outbox = MemoryOutbox(memory.pool)
    assert [each.now for each in await outbox.pending(10, now=memory.now)] == [None]
    assert await memory.pool.fetchval("select count(*) from memory where reason <> ''") == 0
    await memory.apply(memory.written("a", "anew", base=0, subject="bob"))
    assert await memory.content("a") == "anew"


async def test_nothing_is_kept_of_what_comes_late_from_a_forgotten_person(
    memory: Remembering,
) -> None:
    """Members may seal and open with a destroyed key for a while: what they said comes behind."""
    bad = memory.quarantine("coder/coder-1", since=1)
    changes: list[MemoryChange] = [
        memory.written("source", "bad"),
        bad,
        memory.written("ours", "by bob", subject="bob", author="critic/critic-1"),
        memory.written("gone", "by bob", subject="bob", author="critic/critic-1"),
        memory.forget("ada"),
        memory.written("ours", "by ada", subject="ada", base=1, metadata={"by": "ada"}),
        memory.written("hers", "of ada", subject="ada", sources=(version("source", 1),)),
        replace(memory.written("gone", None, subject="ada"), reason="ada wants it away"),
        memory.written("bobs", "of bob", subject="bob", author="critic/critic-1"),
        memory.release(bad),
    ]
    query = "select row_to_json(m)::text as row from memory m order by item, version"
    await memory.apply(*changes)
    seen = {item: await memory.content(item) for item in ("ours", "hers", "gone", "bobs")}
    assert seen == {"ours": "by bob", "hers": None, "gone": None, "bobs": "of bob"}
    rows = await memory.pool.fetch(query)
    assert not [row["row"] for row in rows if " ada" in row["row"] or '"by"' in row["row"]]
    await memory.projection.clear()
    erased = [
        replace(each, content=None, metadata={}, reason="")
        if isinstance(each, Write) and each.cause.subject == "ada"
        else each
        for each in changes
    ]
    await memory.apply(*erased)
    assert await memory.pool.fetch(query) == rows
    anew = memory.written("hers", "anew", subject="bob", base=0, author="critic/critic-1")
    await memory.apply(anew)
    assert await memory.content("hers") == "anew"


async def test_a_memory_made_again_without_the_forgetting_has_it_all(memory: Remembering) -> None:
    await memory.apply(memory.forget("ada"))
    await memory.projection.clear()
    memory.place = 0
    await memory.apply(memory.written("hers", "of ada", subject="ada"))
    assert await memory.content("hers") == "of ada"


async def test_an_item_goes_away_by_itself(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "for a moment", kind="session", life_s=10))
    assert await memory.content("a") == "for a moment"
    over = memory.now + timedelta(seconds=10)
    assert await memory.reader.read(TENANT, "shared/notes", "a", now=over) is None
    assert await memory.projection.expire(over) == 1
    assert await memory.pool.fetchval("select count(content) from memory") == 0


@pytest.mark.parametrize("is_swept", [True, False])
async def test_what_has_expired_is_not_there_for_who_writes(
    memory: Remembering,
    is_swept: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    await memory.apply(memory.written("a", "lasting"), memory.written("a", "brief", life_s=3))
    memory.place += 10
    if is_swept:
        await memory.projection.expire(memory.now)
    await memory.apply(memory.written("a", "next", base=2), memory.written("a", "new", base=0))
    found = await memory.read("a")
    assert found is not None
    assert (found.version, found.content) == (3, "new")


async def test_words_find_items_in_their_scope(memory: Remembering) -> None:
    await memory.apply(
        memory.written("limits", "The rate limiter uses a token bucket."),
        memory.written("cache", "The cache holds sessions."),
        memory.written("secret", "Another limiter.", namespace="user/ada/notes"),
        memory.written("brief", "A limiter for a while.", kind="session", life_s=100),
    )
    found = await memory.reader.search(
        scope("shared"), "How do limiters of rates work?", now=memory.now, limit=10
    )
    assert found == [("shared/notes", "limits")]
    theirs = await memory.reader.search(scope("user/ada"), "limiter", now=memory.now, limit=10)
    assert theirs == [("user/ada/notes", "secret")]
    assert await memory.reader.search(scope(), "the of and", now=memory.now, limit=10) == []
    assert await memory.reader.search(scope("share"), "limiter", now=memory.now, limit=10) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"author": "critic/critic-1"}, ["b"]),
        ({"author": "critic/critic"}, []),
        ({"run": "r2"}, ["c"]),
        ({"since": BEGAN + timedelta(seconds=2)}, ["c", "b"]),
        ({"before": BEGAN + timedelta(seconds=2)}, ["a"]),
        ({"since": BEGAN + timedelta(seconds=2), "before": BEGAN + timedelta(seconds=3)}, ["b"]),
        ({"metadata": {"lang": "en"}}, ["c", "a"]),
        ({"metadata": {"lang": "en", "n": 1}}, ["a"]),
        ({"metadata": {"n": True}}, []),
        ({"metadata": {"lang": None}}, ["b"]),
        ({"metadata": {"tags": "x"}}, []),
        ({"metadata": {"a'b": 'c"d'}}, []),
        ({"metadata": {"lang": "en"}, "run": "r1", "author": "coder/coder-1"}, ["a"]),
    ],
)
async def test_filters_leave_what_is_like_them(
    memory: Remembering, wanted: dict[str, object], found: list[str]
) -> None:
    await memory.apply(
        memory.written("a", "a limiter", metadata={"lang": "en", "n": 1, "tags": ["x"]}),
        memory.written("b", "a limiter", author="critic/critic-1", metadata={"lang": None}),
        memory.written("c", "a limiter", run="r2", metadata={"lang": "en", "n": 2}),
    )
    filters = MemoryFilters.model_validate(wanted)
    names = [("shared/notes", item) for item in ("c", "b", "a", "none")]
    left = [("shared/notes", item) for item in found]
    now = memory.now
    assert await memory.reader.search(scope(), "limiter", now=now, limit=9, filters=filters) == left
    assert await memory.reader.passing(TENANT, names, now=now, filters=filters) == left
    assert set(await memory.reader.named(TENANT, names, now=now, filters=filters)) == set(left)


async def test_filters_look_at_an_item_as_it_is_now(memory: Remembering) -> None:
    await memory.apply(
        memory.written("a", "one", metadata={"lang": "en"}),
        memory.written("a", "two", metadata={"lang": "de"}, author="critic/critic-1"),
    )
    for wanted, is_there in (
        ({"metadata": {"lang": "en"}}, False),
        ({"author": "coder/coder-1"}, False),
        ({"metadata": {"lang": "de"}, "author": "critic/critic-1"}, True),
    ):
        filters = MemoryFilters.model_validate(wanted)
        name = ("shared/notes", "a")
        there = await memory.reader.passing(TENANT, [name], now=memory.now, filters=filters)
        assert there == [name] * is_there


async def test_a_list_is_read_page_by_page(memory: Remembering) -> None:
    await memory.apply(*(memory.written(f"i{n:03}", str(n)) for n in range(25)))
    first = await memory.reader.page(scope(), now=memory.now, limit=10)
    rest = await memory.reader.page(
        scope(), now=memory.now, after=(first[-1].namespace, first[-1].item), limit=100
    )
    assert [item.item for item in (*first, *rest)] == [f"i{n:03}" for n in range(25)]


async def test_changes_are_passed_on_until_they_are_struck_out(memory: Remembering) -> None:
    outbox = MemoryOutbox(memory.pool)
    await memory.apply(memory.written("a", "one"), memory.written("b", "two"))
    pending = await outbox.pending(10, now=memory.now)
    assert [(each.item, each.now and each.now.content) for each in pending] == [
        ("a", "one"),
        ("b", "two"),
    ]
    await memory.apply(memory.written("a", "changed meanwhile"), memory.written("b", None))
    await outbox.done(pending)
    again = await outbox.pending(10, now=memory.now)
    assert [(each.item, each.now and each.now.content) for each in again] == [
        ("a", "changed meanwhile"),
        ("b", None),
    ]
    await outbox.done(again)
    assert await outbox.backlog() == 0
    assert await outbox.all_again() == 1


async def test_an_item_survives_its_own_json(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "für später", sources=(version("b", 1),), life_s=60))
    found = await memory.read("a")
    assert found is not None
    assert MemoryItem.from_json(found.to_json()) == found


async def test_the_same_changes_make_the_same_memory_again(memory: Remembering) -> None:
    changes: list[MemoryChange] = [
        memory.written("a", "one", subject="ada"),
        memory.written("a", "two", base=1),
        memory.written("a", "late", base=1),
        memory.quarantine("coder/coder-1", since=2),
        memory.forget("ada"),
        memory.written("b", "three", base=0),
    ]
    projection = MemoryProjection(memory.pool)
    query = "select row_to_json(m)::text from memory m order by item, version"
    await projection.apply(changes, after=0, until=memory.place)
    once = await memory.pool.fetch(query)
    await projection.clear()
    await projection.apply(changes, after=0, until=memory.place)
    assert await memory.pool.fetch(query) == once
    assert len(once) == 3


async def test_what_was_read_before_the_memory_was_cleared_is_not_applied_after(
    memory: Remembering,
) -> None:
    first = memory.written("a", "one")
    await memory.apply(first)
    second = memory.written("a", "two")
    projection = memory.projection
    await projection.clear()
    assert await projection.apply([second], after=1, until=2) == 0
    assert await projection.apply([first, second], after=0, until=2) == 2
    assert await memory.content("a") == "two"


async def test_old_versions_are_kept_for_who_checks_what_was_read(memory: Remembering) -> None:
    await memory.apply(memory.written("a", "one"), memory.written("a", "two"))
    await memory.apply(memory.written("b", "hidden"))
    await memory.apply(memory.quarantine("coder/coder-1", since=3))
    wanted = [version("b", 1), version("a", 1), version("a", 9)]
    kept = await memory.reader.versions(TENANT, wanted)
    assert [item.content for item in kept] == ["hidden", "one"]


async def test_what_postgres_cannot_hold_is_passed_over_alone(memory: Remembering) -> None:
    too_large = 2**63
    source = Version(namespace="shared/notes", item="a", version=too_large)
    changes: list[MemoryChange] = [
        memory.written("a", "one"),
        memory.written("b", "two", base=too_large),
        memory.written("c", "three", sources=(source,)),
        memory.written("d", "four", subject="a\0b"),
        memory.written("e", "five"),
    ]
    projection = MemoryProjection(memory.pool)
    assert await projection.apply(changes, after=0, until=memory.place) == memory.place
    rows = await memory.pool.fetch("select item from memory order by item")
    assert [row["item"] for row in rows] == ["a", "e"]


async def test_a_write_before_the_end_counts_though_the_end_was_noticed_first(
    memory: Remembering,
) -> None:
    begin = memory.written("a", "one", life_s=5)
    in_time = memory.written("a", "two", base=1)
    projection = MemoryProjection(memory.pool)
    await projection.apply([begin], after=0, until=begin.cause.place)
    assert await projection.expire(memory.now + timedelta(seconds=60)) == 1
    await projection.apply([in_time], after=begin.cause.place, until=memory.place)
    live = await memory.reader.read(TENANT, "shared/notes", "a", now=memory.now)
    await projection.clear()
    await projection.apply([begin, in_time], after=0, until=memory.place)
    again = await memory.reader.read(TENANT, "shared/notes", "a", now=memory.now)
    assert live is not None
    assert (live, live.content, live.version) == (again, "two", 2)
