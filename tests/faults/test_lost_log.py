"""The broker loses what it had acknowledged: it is told, it comes back, the run completes."""

import asyncio
import json
import shutil
import signal
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest

from actors.watch import glance
from bus.errors import BusUnreachable
from bus.event import StoredEvent
from bus.log import EventLog
from bus.payloads import ChainBroken, LogLost
from bus.scan import queue_depth, removed_sequences, stream_state
from bus.subjects import SYSTEM_RUN, run_filter, subject_for
from bus.trim import purge_run
from cluster.comparison import assess, check_audit_log
from cluster.home import locate
from cluster.recover import DELETED, REFILLED, SAVED, VERIFIED, Recovered
from cluster.survivors import Survivors
from policies.capabilities import queue_name
from storage.audit_reader import AuditReader
from storage.postgres import Pool
from storage.trims import TrimStore
from tests.auditing import (
    DEADLINE_S,
    administrator,
    alarm,
    auditing,
    recover,
    until_audited,
)
from tests.broker import Broker
from tests.faults.damage import (
    Damage,
    HalfRun,
    assert_equal_to_audit,
    deleted_by_an_administrator,
    flipped_and_killed,
    flipped_while_running,
    flipped_while_stopped,
)
from tests.integration.storage.conftest import dsn, pool, postgres, template
from tests.sending import submitted

__all__ = ["dsn", "pool", "postgres", "template"]


@pytest.fixture
def run() -> str:
    return f"r{uuid4().hex[:20]}"


@pytest.fixture
def survivors(tmp_path: Path) -> Survivors:
    return Survivors(locate(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        flipped_while_stopped,
        flipped_while_running,
        flipped_and_killed,
        deleted_by_an_administrator,
    ],
)
async def test_what_is_lost_is_told_and_refilled_and_the_run_completes(
    broker: Broker, pool: Pool, run: str, survivors: Survivors, damage: Damage
) -> None:
    half = HalfRun(broker, pool, run)
    await half.begin()
    lost, sender = await damage(half)
    async with auditing(broker, pool) as auditor:
        told = await alarm(auditor, lambda alarm: alarm.count >= len(lost))
    assert (told.first, told.last, told.count) == (lost[0], lost[-1], len(lost))
    assert told.missing[0].sender == f"swarm://{sender}"
    assert told.missing[0].sequence == 1
    done = await recover(broker, pool, survivors)
    assert [each.stream_sequence for each in done.lost] == list(lost)
    assert done.lost[0].sender == f"swarm://{sender}"
    await assert_equal_to_audit(broker, pool)
    await half.finish()
    await assert_equal_to_audit(broker, pool)
    assert await recover(broker, pool, survivors) == Recovered()
    check = await check_audit_log(AuditReader(pool))
    assert (check.altered, check.broken_chains) == ((), ())


async def test_an_old_store_is_noticed_while_it_is_written_over(
    broker: Broker, pool: Pool, run: str, survivors: Survivors, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    await broker.stop()
    shutil.copytree(broker.directory / "store", old)
    await broker.start()
    half = HalfRun(broker, pool, run)
    last = await half.begin()
    await broker.stop()
    shutil.rmtree(broker.directory / "store")
    shutil.copytree(old, broker.directory / "store")
    await broker.start()
    async with broker.joined("gateway", "gateway-3") as gateway:
        more = [await gateway.append(submitted(f"r{n}", by="someone")) for n in range(last + 5)]
    assert more[0].stream_sequence < last < more[-1].stream_sequence
    async with auditing(broker, pool) as auditor:
        told = await alarm(auditor, lambda alarm: alarm.count >= last)
        assert (told.first, told.last) == (1, last)
        assert (await AuditReader(pool).reach()).stream_sequence == last
    done = await recover(broker, pool, survivors)
    assert len(done.lost) == last
    await assert_equal_to_audit(broker, pool)
    await half.finish()
    await assert_equal_to_audit(broker, pool)
    rows = await AuditReader(pool).with_ids([event.event.id for event in more])
    assert [row.record.event_id for row in rows] == [event.event.id for event in more]
    assert {row.record.verdict for row in rows} == {"accepted"}
    check = await check_audit_log(AuditReader(pool))
    assert (check.altered, check.broken_chains) == ((), ())


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("moment", [SAVED, DELETED, REFILLED, VERIFIED])
async def test_a_recovery_that_is_killed_can_be_run_again(
    broker: Broker, pool: Pool, survivors: Survivors, moment: str
) -> None:
    async with broker.joined("gateway") as gateway:
        async with auditing(broker, pool) as auditor:
            for number in range(20):
                await gateway.append(submitted(f"r{number}"))
            last = await until_audited(auditor, pool)
        unaudited = [await gateway.append(submitted(f"r{number}")) for number in range(20, 30)]
    async with administrator(broker) as connection:
        question = json.dumps({"filter": "evt.*.r7.>"}).encode()
        await connection.client.request("$JS.API.STREAM.PURGE.EVENTS", question)

    def die(reached: str) -> None:
        if reached == moment:
            raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            await recover(broker, pool, survivors, die)
        assert survivors.exist
        assert survivors.path.stat().st_mode & 0o777 == 0o600
    done = await recover(broker, pool, survivors)
    assert done.interrupted
    assert done.survivors == len(unaudited)
    assert not survivors.exist
    await assert_equal_to_audit(broker, pool)
    async with broker.connected("auditor") as (connection, _):
        found = await assess(connection, AuditReader(pool))
    assert [each.event.id for each in found.unrecorded if isinstance(each, StoredEvent)] == [
        each.event.id for each in unaudited
    ]
    assert found.unrecorded[0].stream_sequence == last + 1


async def test_what_is_lost_before_it_was_audited_is_told_and_the_chain_names_its_sender(
    broker: Broker, pool: Pool
) -> None:
    async with broker.joined("gateway") as gateway:
        events = [await gateway.append(submitted(f"r{number}")) for number in range(5)]
        async with administrator(broker) as connection:
            question = json.dumps({"filter": events[2].event.subject}).encode()
            await connection.client.request("$JS.API.STREAM.PURGE.EVENTS", question)
        async with auditing(broker, pool) as auditor:
            told = await alarm(auditor, lambda _: True)
            assert (told.first, told.count) == (events[2].stream_sequence, 1)
            assert told.missing[0].sender == ""
            broken = subject_for(SYSTEM_RUN, ChainBroken.TYPE)
            async with asyncio.timeout(DEADLINE_S), aclosing(auditor.follow(broken)) as following:
                payload = (await anext(following)).payload()  # type: ignore[union-attr]
            await until_audited(auditor, pool)
    assert isinstance(payload, ChainBroken)
    assert (payload.sender, payload.expected_sequence) == ("swarm://gateway/gateway-1", 3)


async def test_what_was_taken_out_on_purpose_is_not_missed(
    broker: Broker, pool: Pool, survivors: Survivors
) -> None:
    async with broker.joined("gateway") as gateway, auditing(broker, pool) as auditor:
        old = [await gateway.append(submitted("old", str(n))) for n in range(3)]
        kept = await gateway.append(submitted("kept"))
        last = await until_audited(auditor, pool)
    await pool.execute(
        "insert into audit_trim (run, stream_sequence) values ('old', $1)", old[1].stream_sequence
    )
    async with administrator(broker) as connection:
        for run, sequence in (("old", old[1].stream_sequence), ("kept", last)):
            question = {"filter": run_filter(run), "seq": sequence + 1}
            await connection.client.request(
                "$JS.API.STREAM.PURGE.EVENTS", json.dumps(question).encode()
            )
    async with auditing(broker, pool) as auditor:
        told = await alarm(auditor, lambda _: True)
    assert [each.stream_sequence for each in told.missing] == [kept.stream_sequence]
    done = await recover(broker, pool, survivors)
    assert [each.stream_sequence for each in done.lost] == [kept.stream_sequence]
    assert (await recover(broker, pool, survivors)).was_whole
    async with broker.connected("auditor") as (connection, _):
        state = await stream_state(connection)
        assert state is not None
        assert await removed_sequences(connection) == [e.stream_sequence for e in old[:2]]


@pytest.mark.parametrize("purged", [0, 1, 3])
@pytest.mark.parametrize("loss", ["one event", "the stream", "nothing"])
async def test_a_trim_that_was_only_begun_is_neither_a_loss_nor_appended_again(
    broker: Broker, pool: Pool, survivors: Survivors, purged: int, loss: str
) -> None:
    async with broker.joined("gateway") as gateway, auditing(broker, pool) as auditor:
        old = [await gateway.append(submitted("old", str(n))) for n in range(3)]
        kept = await gateway.append(submitted("kept"))
        last = await until_audited(auditor, pool)
    at = old[-1].stream_sequence
    await pool.execute("insert into audit_trim (run, stream_sequence) values ('old', $1)", at)
    async with administrator(broker) as connection:
        if purged:
            await purge_run(connection, "old", up_to=old[purged - 1].stream_sequence)
        if loss == "one event":
            await purge_run(connection, "kept", up_to=last)
        elif loss == "the stream":
            await connection.client.request("$JS.API.STREAM.DELETE.EVENTS", b"")
    trimmed = {event.stream_sequence for event in old}
    async with broker.connected("auditor") as (connection, _):
        found = await assess(connection, AuditReader(pool))
    assert not trimmed & {each.stream_sequence for each in found.lost}
    assert found.unrecorded == ()
    done = await recover(broker, pool, survivors)
    assert (len(done.lost) > 0, done.survivors) == (loss != "nothing", 0)
    assert (await recover(broker, pool, survivors)).was_whole
    (trim,) = await TrimStore(pool).unpurged()
    async with administrator(broker) as connection:
        await purge_run(connection, trim.run, up_to=trim.stream_sequence)
        found = await assess(connection, AuditReader(pool))
        assert (found.lost, found.unrecorded) == ((), ())
        assert await connection.message_at(kept.stream_sequence) is not None
        assert await connection.next_message(run_filter("old"), after=0) is None


async def test_a_stream_that_was_set_back_is_known_where_its_audited_end_was_trimmed(
    broker: Broker, pool: Pool, survivors: Survivors
) -> None:
    async with broker.joined("gateway") as gateway, auditing(broker, pool) as auditor:
        await gateway.append(submitted("kept"))
        at = (await gateway.append(submitted("old"))).stream_sequence
        assert await until_audited(auditor, pool) == at
    await pool.execute("insert into audit_trim values ('old', $1, now(), now())", at)
    async with administrator(broker) as connection:
        await purge_run(connection, "old", up_to=at)
        assert not (await glance(connection, AuditReader(pool))).rewound
        await connection.client.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        await broker.provision(lease_s=1.0)
        async with broker.joined("gateway", "gateway-2") as gateway:
            new = [await gateway.append(submitted(f"r{number}")) for number in range(at)]
        seen = await glance(connection, AuditReader(pool))
        assert (seen.rewound, seen.last) == (True, None)
    done = await recover(broker, pool, survivors)
    assert {each.stream_sequence for each in done.lost} == set(range(1, at))
    assert done.survivors > len(new)


async def test_queues_made_anew_begin_at_the_first_open_assignment(
    broker: Broker, pool: Pool, run: str, survivors: Survivors
) -> None:
    half = HalfRun(broker, pool, run)
    last = await half.begin()
    await deleted_by_an_administrator(half)
    done = await recover(broker, pool, survivors)
    assert done.starts is not None
    assert done.starts.by_role
    assert set(done.starts.of(["nobody"]).values()) == {last + done.survivors + 1}
    await broker.provision(lease_s=1.0)  # as the next start does: it changes nothing
    async with broker.connected("auditor") as (connection, _):
        for role in broker.policy.worker_roles:
            depth = await queue_depth(connection, queue_name(role))
            assert depth is not None
            assert (depth.waiting > 0) == (role in done.starts.by_role)
    await half.finish()


async def test_an_auditor_outlives_its_stream(broker: Broker, pool: Pool) -> None:
    """Nobody believes its alarm, for its credential went with the stream; the alarm is there."""
    async with broker.joined("gateway") as gateway, auditing(broker, pool) as auditor:
        await gateway.append(submitted("r1"))
        last = await until_audited(auditor, pool)
        async with administrator(broker) as connection:
            await connection.client.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        await broker.provision(lease_s=1.0)
        subject = subject_for(SYSTEM_RUN, LogLost.TYPE)
        async with asyncio.timeout(DEADLINE_S):
            message = None
            while message is None:
                message = await auditor.connection.last_message(subject)
                await asyncio.sleep(0.05)
        told = LogLost.model_validate_json(message.data)
        assert (told.first, told.last) == (1, last)
        assert (await AuditReader(pool).reach()).stream_sequence == last


async def test_who_reads_where_there_is_no_stream_is_told_to_try_again(broker: Broker) -> None:
    async with broker.joined("gateway") as gateway, administrator(broker) as connection:
        await connection.client.request("$JS.API.STREAM.DELETE.EVENTS", b"")
        with pytest.raises(BusUnreachable, match="does not have the stream"):
            _ = [received async for received in gateway.read(run_filter("r1"))]


async def test_a_broker_that_is_killed_again_and_again_raises_no_alarm(
    broker: Broker, pool: Pool
) -> None:
    stop = asyncio.Event()

    async def talk(gateway: EventLog) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await gateway.append(submitted(f"r{number}"))

    async with broker.joined("gateway") as gateway, auditing(broker, pool) as auditor:
        talking = asyncio.create_task(talk(gateway))
        for _ in range(5):
            before = await gateway.last_sequence()
            async with asyncio.timeout(DEADLINE_S):
                while await gateway.last_sequence() < before + 50:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await broker.stop(signal.SIGKILL)
            await broker.start()
        stop.set()
        await talking
        await until_audited(auditor, pool)
        for kind in (LogLost, ChainBroken):
            assert await auditor.last_on(subject_for(SYSTEM_RUN, kind.TYPE)) is None
    await assert_equal_to_audit(broker, pool)
    check = await check_audit_log(AuditReader(pool))
    assert (check.altered, check.broken_chains) == ((), ())
