"""A policy is in force from the event that adopts it; an event is judged where it stands."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from nats.aio.msg import Msg

from actors.authority import acting_authority, adopt, announcement
from actors.member import Domain
from bus.connection import Connection
from bus.errors import ConsumptionDenied, MalformedEvent, NotPermitted
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import AgentStarted, PolicyAdopted
from bus.received import Received, RefusedEvent
from bus.subjects import ALL_EVENTS, SYSTEM_RUN, TRUST_RUN, kind_filter, run_filter, subject_for
from bus.work import Delivery, Verdict, WorkQueue
from policies.capabilities import Capabilities, queue_name, shipped_source
from tests.broker import Broker
from tests.sending import submitted

SHIPPED = Capabilities.shipped()
MUTE = Capabilities(shipped_source().replace(b"      - run.submitted\n", b""))
"""As shipped, but a gateway may submit no run."""
LONGER = Capabilities.shipped(["poet"])


@pytest.fixture
async def fresh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    """A broker whose log is empty: no policy was adopted yet."""
    broker = Broker(tmp_path_factory.mktemp("fresh"))
    await broker.start()
    await broker.provision()
    yield broker
    await broker.stop()


def domain_of(broker: Broker, policy: Capabilities) -> Domain:
    return Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
        bundle=policy.document,
    )


async def change(broker: Broker, policy: Capabilities) -> None:
    """The authority starts again, with another policy."""
    async with acting_authority(
        broker.authority, b"secret", domain_of(broker, policy), "authority-1"
    ):
        broker.policy = policy


async def adoptions(log: EventLog) -> list[Received]:
    return [each async for each in log.read(run_filter(TRUST_RUN))]


async def verdicts(log: EventLog, run: str) -> list[str]:
    found = [each async for each in log.read(run_filter(run))]
    return [each.error.code if isinstance(each, RefusedEvent) else "accepted" for each in found]


def questions_to(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the log is asked for from now on: subjects, and after which place."""
    asked: list[tuple[str, int]] = []
    next_message = connection.next_message

    async def asking(subject: str, *, after: int) -> Msg | None:
        asked.append((subject, after))
        return await next_message(subject, after=after)

    monkeypatch.setattr(connection, "next_message", asking)
    return asked


@pytest.mark.parametrize("followed", [run_filter("r1"), kind_filter("run.submitted")])
async def test_a_follower_is_given_what_changes_and_asks_the_log_for_nothing(
    fresh: Broker, monkeypatch: pytest.MonkeyPatch, followed: str
) -> None:
    await change(fresh, SHIPPED)
    async with (
        fresh.joined("gateway") as gateway,
        fresh.joined("auditor") as reader,
        aclosing(reader.follow(followed)) as events,
    ):
        await gateway.append(submitted("r1", "before"))
        assert isinstance(await anext(events), StoredEvent)
        asked = questions_to(reader.connection, monkeypatch)
        for objective in ("while", "it", "holds"):
            await gateway.append(submitted("r1", objective))
            assert isinstance(await anext(events), StoredEvent)
        await change(fresh, MUTE)
        await gateway.append(submitted("r1", "after"))
        async with asyncio.timeout(10):
            late = await anext(events)
        assert isinstance(late, RefusedEvent)
        assert isinstance(late.error, NotPermitted)
        assert run_filter(TRUST_RUN) not in [subject for subject, _ in asked]


async def test_a_change_of_trust_that_is_nothing_at_all_does_not_stall_a_follower(
    fresh: Broker,
) -> None:
    """To the broker, a message of nothing ends the answers of a request."""
    async with (
        fresh.joined("authority") as authority,
        fresh.joined("gateway") as gateway,
        fresh.joined("auditor") as reader,
        aclosing(reader.follow(run_filter("r1"))) as events,
    ):
        await gateway.append(submitted("r1", "before"))
        assert isinstance(await anext(events), StoredEvent)
        subject = subject_for(TRUST_RUN, PolicyAdopted.TYPE)
        await authority.connection.publish(subject, b"", {}, timeout_s=5)
        await gateway.append(submitted("r1", "after"))
        async with asyncio.timeout(10):
            nothing, after = await anext(events), await anext(events)
    assert isinstance(nothing, RefusedEvent)
    assert nothing.subject == subject
    assert isinstance(after, StoredEvent)
    assert after.event.run == "r1"


async def test_who_asks_for_single_events_asks_only_for_changes_behind_what_it_knows(
    fresh: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fresh.joined("gateway") as gateway, fresh.joined("coder") as coder:
        first = await gateway.append(submitted("r1", "first"))
        assert isinstance(await coder.next_on(run_filter("r1"), after=0), StoredEvent)
        asked = questions_to(coder.connection, monkeypatch)
        await gateway.append(submitted("r1", "second"))
        await coder.next_on(run_filter("r1"), after=first.stream_sequence)
        of_trust = [after for subject, after in asked if subject == run_filter(TRUST_RUN)]
        assert of_trust == [first.stream_sequence - 1]


async def test_a_change_in_a_log_that_was_set_back_is_learned_of(fresh: Broker) -> None:
    """It stands where there was none, as the reader knew, in the log that is gone."""
    store, older = fresh.directory / "store", fresh.directory / "older"
    async with fresh.joined("gateway") as gateway, fresh.joined("coder") as coder:
        await gateway.append(submitted("r1", "kept"))
        await fresh.stop()
        shutil.copytree(store, older)
        await fresh.start()
        lost = [await gateway.append(submitted("r1", f"lost {n}")) for n in range(20)]
        behind = lost[-1].stream_sequence - 1
        assert isinstance(await coder.next_on(run_filter("r1"), after=behind), StoredEvent)
        await fresh.stop()
        shutil.rmtree(store)
        older.rename(store)
        await fresh.start()
        await change(fresh, MUTE)
        for n in range(20):
            await gateway.append(submitted("r2", f"after {n}"))
        late = await coder.next_on(run_filter("r2"), after=lost[-1].stream_sequence)
        assert isinstance(late, RefusedEvent)
        assert isinstance(late.error, NotPermitted)


async def test_an_authority_that_starts_again_adopts_a_policy_once(fresh: Broker) -> None:
    for policy in (SHIPPED, SHIPPED, LONGER, LONGER, SHIPPED):
        await change(fresh, policy)
    async with fresh.joined("auditor") as log:
        told = [each.payload() for each in await adoptions(log) if isinstance(each, StoredEvent)]
        digests = [each.digest for each in told if isinstance(each, PolicyAdopted)]
        assert digests == [SHIPPED.digest, LONGER.digest, SHIPPED.digest]
        in_force = await log.policy_in_force()
        assert in_force is not None
        assert in_force.document == SHIPPED.document


async def test_nothing_but_what_founds_trust_is_believed_before_the_first_policy(
    fresh: Broker,
) -> None:
    async with (
        fresh.joined("gateway", announce=False) as gateway,
        fresh.joined("authority", announce=False) as authority,
        fresh.joined("auditor", announce=False) as reader,
    ):
        for log in (authority, gateway, reader):
            await authority.append(announcement(log.sender.credential))
        await gateway.append(submitted("r1"))
        assert await verdicts(reader, "r1") == ["not_permitted"]
        (early,) = [each async for each in reader.read(run_filter("r1"))]
        assert isinstance(early, RefusedEvent)
        assert "no policy was adopted before" in str(early.error)
        assert await verdicts(reader, SYSTEM_RUN) == ["accepted"] * 3
        await adopt(authority, SHIPPED)
        await gateway.append(submitted("r2"))
        assert await verdicts(reader, "r1") == ["not_permitted"]
        assert await verdicts(reader, "r2") == ["accepted"]


async def test_what_was_permitted_where_it_stands_stays_readable(fresh: Broker) -> None:
    async with fresh.joined("gateway") as gateway:
        await gateway.append(submitted("r1", "before"))
        await change(fresh, MUTE)
        # what the broker was told when it let this connection in is what it enforces still
        await gateway.append(submitted("r1", "after"))
        async with fresh.joined("auditor") as reader:
            assert await verdicts(reader, "r1") == ["accepted", "not_permitted"]


@pytest.mark.parametrize("whole", [True, False], ids=["whole log", "one run"])
async def test_a_reader_learns_of_a_policy_while_it_reads(fresh: Broker, *, whole: bool) -> None:
    async with fresh.joined("gateway") as old, fresh.joined("auditor") as reader:
        await old.append(submitted("r1", "old"))
        assert await verdicts(reader, "r1") == ["accepted"]
        await change(fresh, LONGER)
        async with fresh.joined("gateway", "gateway-2") as new:
            await new.append(submitted("r1", "new"))
            await old.append(submitted("r1", "stale"))
        found = []
        async with aclosing(reader.read(ALL_EVENTS if whole else run_filter("r1"))) as events:
            async for each in events:
                run = each.event.run if isinstance(each, StoredEvent) else each.run
                if run == "r1":
                    found.append(each)
        kept = [each.error.code if isinstance(each, RefusedEvent) else "" for each in found]
        assert kept == ["", "", "not_permitted"]


async def test_who_asks_for_single_events_learns_of_a_policy_that_it_does_not_know(
    fresh: Broker,
) -> None:
    async with fresh.joined("coder") as coder, fresh.joined("gateway") as old:
        await old.append(submitted("r1"))
        first = await coder.next_on(run_filter("r1"), after=0)
        assert isinstance(first, StoredEvent)
        await change(fresh, LONGER)
        async with fresh.joined("gateway", "gateway-2") as new:
            await new.append(submitted("r1", "new"))
        second = await coder.next_on(run_filter("r1"), after=first.stream_sequence)
        assert isinstance(second, StoredEvent)
        assert second.event.policy == LONGER.digest


async def test_nobody_but_the_authority_puts_a_policy_in_force(fresh: Broker) -> None:
    evil = Capabilities(
        shipped_source().replace(b"      - run.submitted\n", b"      - policy.adopted\n")
    )
    async with fresh.joined("auditor") as reader:
        fresh.policy = evil  # by which the broker lets a gateway say it
        async with fresh.connected("gateway") as (connection, sender):
            fresh.policy = SHIPPED
            await fresh.announce(sender.credential)
            log = EventLog(connection, fresh.trust(), evil, sender)
            forged = PolicyAdopted(digest=evil.digest, document=evil.document)
            await log.append(Draft(run=TRUST_RUN, payload=forged, id="forged"))
        found = (await adoptions(reader))[-1]
        assert isinstance(found, RefusedEvent)
        assert isinstance(found.error, NotPermitted)
        in_force = await reader.policy_in_force()
        assert in_force is not None
        assert in_force.digest == SHIPPED.digest


async def test_an_adoption_whose_document_is_another_is_refused(fresh: Broker) -> None:
    async with fresh.joined("auditor") as reader, fresh.connected("authority") as (connection, own):
        await fresh.announce(own.credential)
        log = EventLog(connection, fresh.trust(), SHIPPED, own)
        lie = PolicyAdopted(digest=LONGER.digest, document=SHIPPED.document)
        await log.append(Draft(run=TRUST_RUN, payload=lie, id="lie"))
        found = (await adoptions(reader))[-1]
        assert isinstance(found, RefusedEvent)
        assert isinstance(found.error, MalformedEvent)
        started = AgentStarted(role="auditor", name="auditor-1", pid=1, node="n")
        await reader.append(Draft(run=SYSTEM_RUN, payload=started, id=derive_id("still in force")))
        assert "not_permitted" not in await verdicts(reader, SYSTEM_RUN)


async def test_a_role_that_may_not_read_or_work_is_told_before_the_broker_is_asked(
    fresh: Broker,
) -> None:
    async with fresh.joined("coder") as coder, fresh.joined("gateway") as gateway:
        for reading in (coder.read(ALL_EVENTS), coder.follow(ALL_EVENTS)):
            with pytest.raises(ConsumptionDenied, match="may not read"):
                await anext(reading)
        queue = WorkQueue(gateway, queue_name("coder"), lease_s=1.0)
        with pytest.raises(ConsumptionDenied, match="may not work"):
            await queue.run(never)


async def never(_: Delivery) -> Verdict:
    raise AssertionError
