"""The coordinator on a real broker; the agents are played by hand."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from actors.coordinator import Coordinator
from actors.definition import definition_of
from actors.replay import replay
from actors.workflow import StepSpec, WorkflowSpec
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import (
    CancelRequested,
    ChainBroken,
    PauseRequested,
    Payload,
    ResultRefused,
    RetryRequested,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunSubmitted,
    StallNoticed,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    Usage,
)
from bus.subjects import ALL_EVENTS, STREAM, SYSTEM_RUN, run_filter
from tests.broker import Broker
from tests.integration.actors.assigning import assigned, forge, payloads, said
from tests.swarming import in_background
from tests.unit.actors.simulation import answer_for

BACKOFF_S = 1.0
SOLO = WorkflowSpec(
    name="solo", nodes=(StepSpec(name="code", role="coder", max_attempts=2, backoff_s=BACKOFF_S),)
)
BRITTLE = WorkflowSpec(
    name="brittle", nodes=(StepSpec(name="code", role="coder", max_attempts=1, backoff_s=0.0),)
)


@asynccontextmanager
async def coordinating(
    broker: Broker, name: str = "coordinator-1", **settings: Any
) -> AsyncIterator[EventLog]:
    async with (
        broker.joined("coordinator", name) as log,
        in_background(Coordinator(log, **settings).run()),
    ):
        yield log


def submitted(run: str, workflow: WorkflowSpec = SOLO, **more: Any) -> Draft:
    payload = RunSubmitted(
        objective="Sort names",
        workflow=workflow.name,
        definition=definition_of(workflow),
        model="none",
        requested_by="ann",
        **more,
    )
    return Draft(run=run, payload=payload, id=derive_id("run.submitted", run))


def asked(run: str, payload: Payload) -> Draft:
    return Draft(run=run, payload=payload, id=uuid4().hex)


async def until(
    log: EventLog, run: str, model: type[Payload], fits: Callable[[Any], bool] = lambda _: True
) -> StoredEvent:
    """The first event of that type in a run."""
    async with asyncio.timeout(60), aclosing(log.follow(run_filter(run))) as events:
        async for event in events:
            if isinstance(event, StoredEvent) and event.event.type == model.TYPE:
                payload = event.payload()
                if fits(payload):
                    return event
    raise AssertionError("the log has an end")


async def claim(coder: EventLog, assignment: StoredEvent, epoch: int = 1) -> StoredEvent:
    work = assignment.payload()
    assert isinstance(work, StepAssigned)
    payload = StepClaimed(
        step=work.step,
        iteration=work.iteration,
        attempt=work.attempt,
        epoch=epoch,
        agent=coder.sender.credential.name,
    )
    return await say(coder, assignment, payload)


async def answer(coder: EventLog, claimed: StoredEvent) -> StoredEvent:
    work = claimed.payload()
    assert isinstance(work, StepClaimed)
    payload = StepCompleted(
        step=work.step,
        iteration=work.iteration,
        attempt=work.attempt,
        epoch=work.epoch,
        answer=answer_for("coder", work.step),
        model="none",
        usage=Usage(prompt_tokens=1, completion_tokens=1),
        duration_ms=1,
    )
    return await say(coder, claimed, payload)


async def fail(coder: EventLog, claimed: StoredEvent) -> StoredEvent:
    work = claimed.payload()
    assert isinstance(work, StepClaimed)
    payload = StepFailed(
        step=work.step,
        iteration=work.iteration,
        attempt=work.attempt,
        epoch=work.epoch,
        code="no_luck",
        message="no luck",
        retryable=True,
    )
    return await say(coder, claimed, payload)


async def say(coder: EventLog, cause: StoredEvent, payload: Payload) -> StoredEvent:
    draft = Draft(
        run=cause.event.run,
        payload=payload,
        id=derive_id(payload.TYPE, cause.event.id),
        suffix=("coder",),
        cause=cause.event.id,
    )
    return await coder.append(draft)


async def work_off(coder: EventLog, assignment: StoredEvent) -> None:
    await answer(coder, await claim(coder, assignment))


async def test_a_backoff_outlives_the_coordinator(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
        async with coordinating(broker):
            await gateway.append(submitted(run))
            assignment = await until(gateway, run, StepAssigned)
        failed = await fail(coder, await claim(coder, assignment))
        async with coordinating(broker, "coordinator-2"):
            again = await until(gateway, run, StepAssigned, lambda work: work.attempt == 2)
            waited = again.event.time - failed.event.time
            assert timedelta(seconds=BACKOFF_S) <= waited < timedelta(seconds=BACKOFF_S + 30)
            await work_off(coder, again)
            await until(gateway, run, RunCompleted)


async def test_a_run_past_its_deadline_fails_though_nothing_happens(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway, coordinating(broker):
        begun = await gateway.append(submitted(run, deadline_s=0.3))
        ended = await until(gateway, run, RunFailed)
        payload = ended.payload()
        assert isinstance(payload, RunFailed)
        assert payload.code == "run_deadline"
        assert ended.event.time - begun.event.time >= timedelta(seconds=0.3)


async def test_a_run_that_waits_for_a_place_fails_at_its_deadline(broker: Broker, run: str) -> None:
    """Its backoff is over long before; when a place is free, nothing of it goes out any more."""
    other = f"{run}x"
    async with (
        broker.joined("gateway") as gateway,
        broker.joined("coder") as coder,
        coordinating(broker, window=1, stall_s=0.2),
    ):
        begun = await gateway.append(submitted(run, deadline_s=4.0))
        claimed = await claim(coder, await until(gateway, run, StepAssigned))
        await gateway.append(submitted(other))
        await fail(coder, claimed)
        blocking = await until(gateway, other, StepAssigned)
        ended = await until(gateway, run, RunFailed)
        payload = ended.payload()
        assert isinstance(payload, RunFailed)
        assert payload.code == "run_deadline"
        assert ended.event.time - begun.event.time < timedelta(seconds=20)
        await work_off(coder, blocking)
        await until(gateway, other, RunCompleted)
        events = await said(gateway, run)
        assert len(payloads(events, StepAssigned)) == 1
        assert replay(events).is_equal


async def test_nothing_is_assigned_of_a_run_whose_time_is_up_when_its_turn_comes(
    broker: Broker, run: str
) -> None:
    late = f"{run}x"
    async with broker.joined("gateway") as gateway, broker.joined("coordinator") as log:
        await gateway.append(submitted(run))
        await gateway.append(submitted(late, deadline_s=60.0))

        def clock() -> datetime:
            """It jumps once the first of the two is assigned, between two turns."""
            return datetime.now(UTC) + timedelta(hours=1 if log.sender.head.sequence else 0)

        async with in_background(Coordinator(log, clock=clock).run()):
            ended = (await until(gateway, late, RunFailed)).payload()
        assert isinstance(ended, RunFailed)
        assert ended.code == "run_deadline"
        assert len(payloads(await said(gateway, run), StepAssigned)) == 1
        assert payloads(await said(gateway, late), StepAssigned) == []


async def test_high_priority_overtakes_what_waits_for_a_place(broker: Broker) -> None:
    first, second, low, high = (f"r{uuid4().hex[:20]}" for _ in range(4))
    async with (
        broker.joined("gateway") as gateway,
        broker.joined("coder") as coder,
        coordinating(broker, window=1),
        coordinating(broker, "coordinator-2", window=1),
    ):
        await gateway.append(submitted(first))
        assignment = await until(gateway, first, StepAssigned)
        await gateway.append(submitted(low, priority="low"))
        await gateway.append(submitted(second))
        await gateway.append(submitted(high, priority="high"))
        order = [first]
        for run in (high, second, low):
            await work_off(coder, assignment)
            assignment = await until(gateway, run, StepAssigned)
            order.append(run)
        await work_off(coder, assignment)
        await until(gateway, low, RunCompleted)
        events = [each async for each in gateway.read(ALL_EVENTS)]
        sent = [e.event for e in events if isinstance(e, StoredEvent)]
        assert [e.run for e in sent if e.type == StepAssigned.TYPE] == order
        assert [e.run for e in sent if e.type == RunCompleted.TYPE] == order


async def test_a_standstill_is_noticed_once_with_its_reason(broker: Broker, run: str) -> None:
    paused, marker = f"{run}p", f"{run}m"
    async with broker.joined("gateway") as gateway:
        async with coordinating(broker, stall_s=2.0):
            await gateway.append(submitted(run))
            await gateway.append(submitted(paused))
            await gateway.append(asked(paused, PauseRequested(requested_by="ann")))
            notice = (await until(gateway, run, StallNoticed)).payload()
            assert isinstance(notice, StallNoticed)
            assert (notice.code, notice.step) == ("unclaimed", "code")
        async with coordinating(broker, "coordinator-2", stall_s=2.0):
            await gateway.append(submitted(marker))
            await until(gateway, marker, StallNoticed)
        assert len(payloads(await said(gateway, run), StallNoticed)) == 1
        assert payloads(await said(gateway, paused), StallNoticed) == []


async def test_a_run_that_waits_for_a_place_says_so(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, coordinating(broker, stall_s=0.2, window=0):
        await gateway.append(submitted(run))
        notice = (await until(gateway, run, StallNoticed)).payload()
        assert isinstance(notice, StallNoticed)
        assert (notice.code, notice.step) == ("queued", "code")


async def test_a_late_result_is_refused_though_its_run_was_forgotten(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
        async with coordinating(broker):
            await gateway.append(submitted(run))
            claimed = await claim(coder, await until(gateway, run, StepAssigned))
            await gateway.append(asked(run, CancelRequested(requested_by="ann")))
            await until(gateway, run, RunCancelled)
            late = await answer(coder, claimed)
            refusal = (await until(gateway, run, ResultRefused)).payload()
            assert isinstance(refusal, ResultRefused)
            assert refusal.refused == late.event.id
        later = await fail(coder, claimed)
        async with coordinating(broker, "coordinator-2"):
            await until(gateway, run, ResultRefused, lambda it: it.refused == later.event.id)
        refused = payloads(await said(gateway, run), ResultRefused)
        assert [each.refused for each in refused] == [late.event.id, later.event.id]


async def test_a_failed_run_is_taken_up_again_though_it_was_forgotten(
    broker: Broker, run: str
) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
        async with coordinating(broker):
            await gateway.append(submitted(run, BRITTLE))
            for attempt in (1, 2):
                assignment = await until(gateway, run, StepAssigned, partial(_is_attempt, attempt))
                await fail(coder, await claim(coder, assignment))
                await _until_failures(gateway, run, attempt)
                if attempt == 1:
                    await gateway.append(asked(run, RetryRequested(requested_by="ann")))
        await gateway.append(asked(run, RetryRequested(requested_by="ann")))
        async with coordinating(broker, "coordinator-2"):
            third = await until(gateway, run, StepAssigned, lambda work: work.attempt == 3)
            await work_off(coder, third)
            await until(gateway, run, RunCompleted)


def _is_attempt(number: int, work: StepAssigned) -> bool:
    return work.attempt == number


async def _until_failures(log: EventLog, run: str, count: int) -> None:
    async with asyncio.timeout(20), aclosing(log.follow(run_filter(run))) as events:
        async for event in events:
            if isinstance(event, StoredEvent) and event.event.type == RunFailed.TYPE:
                count -= 1
                if count == 0:
                    return


async def test_junk_among_the_events_of_a_run_does_not_stop_it(broker: Broker, run: str) -> None:
    """The stream counts it when it is asked whether anything happened in the run."""
    async with (
        broker.joined("gateway") as gateway,
        broker.joined("coder") as coder,
        coordinating(broker) as coordinator,
    ):
        await gateway.append(submitted(run))
        await fail(coder, await claim(coder, await until(gateway, run, StepAssigned)))
        await forge(coordinator, assigned(run, attempt=7))
        again = await until(gateway, run, StepAssigned, lambda work: work.attempt == 2)
        await work_off(coder, again)
        await until(gateway, run, RunCompleted)


async def test_a_gap_in_a_chain_is_told_once_and_stops_nothing(broker: Broker, run: str) -> None:
    async with (
        broker.joined("gateway") as gateway,
        coordinating(broker, "coordinator-1"),
        coordinating(broker, "coordinator-2"),
    ):
        await gateway.append(submitted(run))
        gateway.sender.advance(gateway.sender.sign(submitted(f"{run}lost")))
        await gateway.append(submitted(f"{run}x"))
        alarm = (await until(gateway, SYSTEM_RUN, ChainBroken)).payload()
        assert isinstance(alarm, ChainBroken)
        assert alarm.sender == gateway.sender.source
        assert (alarm.expected_sequence, alarm.found_sequence) == (2, 3)
        await until(gateway, f"{run}x", StepAssigned)
        async with coordinating(broker, "coordinator-3"):
            await gateway.append(submitted(f"{run}y"))
            await until(gateway, f"{run}y", StepAssigned)
        assert len(payloads(await said(gateway, SYSTEM_RUN), ChainBroken)) == 1


async def test_a_trimmed_log_raises_no_alarm(broker: Broker, run: str) -> None:
    async with broker.joined("gateway") as gateway, broker.joined("coder") as coder:
        async with coordinating(broker):
            await gateway.append(submitted(run))
            await work_off(coder, await until(gateway, run, StepAssigned))
            await until(gateway, run, RunCompleted)
        async with broker.connected("launcher") as (connection, _):
            await connection.manager.purge_stream(STREAM, subject=run_filter(run))
        assert await said(gateway, run) == []
        async with coordinating(broker, "coordinator-2"):
            await gateway.append(submitted(f"{run}x"))
            await work_off(coder, await until(gateway, f"{run}x", StepAssigned))
            await until(gateway, f"{run}x", RunCompleted)
        assert payloads(await said(gateway, SYSTEM_RUN), ChainBroken) == []


async def test_a_log_that_was_set_back_is_read_from_its_beginning(broker: Broker, run: str) -> None:
    store, copy = broker.directory / "store", broker.directory / "copy"
    async with (
        broker.joined("gateway") as gateway,
        broker.joined("coder") as coder,
        coordinating(broker),
    ):
        await gateway.append(submitted(run))
        assignment = await until(gateway, run, StepAssigned)
        await broker.stop()
        shutil.copytree(store, copy)
        await broker.start()
        for number in range(5):
            await gateway.append(submitted(f"{run}{number}"))
            await until(gateway, f"{run}{number}", StepAssigned)
        await broker.stop()
        shutil.rmtree(store)
        copy.rename(store)
        await broker.start()
        await work_off(coder, assignment)
        await until(gateway, run, RunCompleted)
