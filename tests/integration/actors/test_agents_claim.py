"""Claims on a real broker: one agent for each epoch, whatever the queue counts."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from actors.attempt import Attempt, Desk, Report, place_of
from actors.run_end import RunEnded
from bus.event import Draft, StoredEvent
from bus.log import EventLog
from bus.payload import LARGEST
from bus.payloads import StepClaimed, StepCompleted, Usage
from bus.trust import ChainTracker
from tests.broker import Broker
from tests.integration.actors.assigning import (
    assigned,
    cancelled,
    delivery,
    forge,
    forget_ids,
    kinds,
    payloads,
    said,
    work,
)

REPORT = Report(
    answer={"code": "x"}, model="none", usage=Usage(prompt_tokens=0, completion_tokens=0)
)


async def claim(log: EventLog, assignment: StoredEvent, deliveries: int = 1) -> Attempt | None:
    return await Desk(log, "coder").claim(work(assignment), delivery(assignment, deliveries))


async def test_the_first_claim_has_the_epoch_of_the_delivery(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        assignment = await coordinator.append(assigned(run))
        attempt = await claim(coder, assignment)
        assert attempt is not None
        assert attempt.epoch == 1
        assert attempt.claim.event.cause == assignment.event.id
        later = await claim(coder, assignment, deliveries=5)
        assert later is not None
        assert later.epoch == 5


async def test_a_queue_that_counts_anew_gives_no_epoch_away_twice(broker: Broker, run: str) -> None:
    async with (
        broker.joined("coordinator") as coordinator,
        broker.joined("coder", "coder-1") as one,
        broker.joined("coder", "coder-2") as other,
    ):
        assignment = await coordinator.append(assigned(run))
        first, third = await claim(one, assignment), await claim(one, assignment, deliveries=3)
        again = await claim(other, assignment)
        assert first is not None
        assert third is not None
        assert again is not None
        assert (first.epoch, third.epoch, again.epoch) == (1, 3, 4)
        assert again.claim.event.key == other.sender.key.public


async def test_many_agents_with_the_same_delivery_all_get_another_epoch(
    broker: Broker, run: str
) -> None:
    async with AsyncExitStack() as stack:
        coordinator = await stack.enter_async_context(broker.joined("coordinator"))
        logs = [
            await stack.enter_async_context(broker.joined("coder", f"coder-{n}"))
            for n in range(1, 9)
        ]
        assignment = await coordinator.append(assigned(run))
        attempts = await asyncio.gather(*(claim(log, assignment) for log in logs))
        epochs = [attempt.epoch for attempt in attempts if attempt is not None]
        assert len(set(epochs)) == len(logs)
        claims = [each for each in await said(coordinator, run) if "claimed" in each.event.type]
        by_id = [each.event.id for each in claims]
        assert len(by_id) == len(set(by_id)) == len(logs)


async def test_an_agent_does_not_take_its_own_earlier_claim_for_a_new_one(
    broker: Broker, run: str
) -> None:
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        assignment = await coordinator.append(assigned(run))
        first, second = await claim(coder, assignment), await claim(coder, assignment)
        assert first is not None
        assert second is not None
        assert (first.epoch, second.epoch) == (1, 2)


async def test_an_agent_outlives_a_claim_that_leaves_no_epoch(broker: Broker, run: str) -> None:
    """Such a claim keeps one assignment; who is handed that one goes on to the next."""
    async with (
        broker.joined("coordinator") as coordinator,
        broker.joined("coder", "coder-1") as rogue,
        broker.joined("coder", "coder-2") as other,
    ):
        assignment = await coordinator.append(assigned(run))
        last = StepClaimed(**place_of(work(assignment)), epoch=LARGEST, agent="coder-1")
        draft = Draft(
            run=run, payload=last, id="last", suffix=("coder",), cause=assignment.event.id
        )
        await rogue.append(draft)
        assert await claim(other, assignment, deliveries=2) is None
        following = await coordinator.append(assigned(run, attempt=2))
        assert await claim(other, following) is not None


async def test_an_answered_assignment_is_not_claimed_again(broker: Broker, run: str) -> None:
    async with (
        broker.joined("coordinator") as coordinator,
        broker.joined("coder", "coder-1") as one,
        broker.joined("coder", "coder-2") as other,
    ):
        assignment = await coordinator.append(assigned(run))
        attempt = await claim(one, assignment)
        assert attempt is not None
        await Desk(one, "coder").complete(attempt, REPORT, 0.5)
        assert await claim(other, assignment) is None
        assert await claim(other, assignment, deliveries=2) is None
        assert kinds(await said(coordinator, run)) == [
            "step.assigned",
            "step.claimed",
            "step.completed",
        ]


async def test_a_result_that_a_later_claim_fenced_off_answers_nothing(
    broker: Broker, run: str
) -> None:
    """The coordinator refuses it: whoever stopped here would leave the step to nobody."""
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        assignment = await coordinator.append(assigned(run))
        first = await claim(coder, assignment)
        assert first is not None
        assert await claim(coder, assignment, deliveries=2) is not None
        await Desk(coder, "coder").complete(first, REPORT, 0.5)
        third = await claim(coder, assignment, deliveries=3)
        assert third is not None
        assert third.epoch == 3


async def test_the_answer_of_another_part_answers_nothing(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        one = await coordinator.append(assigned(run, item=1))
        other = await coordinator.append(assigned(run, item=2))
        attempt = await claim(coder, one)
        assert attempt is not None
        await Desk(coder, "coder").complete(attempt, REPORT, 0.5)
        again = await claim(coder, other, deliveries=2)
        assert again is not None
        assert again.epoch == 2
        assert await claim(coder, one, deliveries=2) is None


async def test_an_old_assignment_is_looked_up_since_the_stream_may_have_forgotten_its_claim(
    broker: Broker, run: str
) -> None:
    async with (
        broker.joined("coordinator") as coordinator,
        broker.joined("coder", "coder-1") as one,
        broker.joined("coder", "coder-2") as other,
    ):
        assignment = await coordinator.append(assigned(run))
        assert await claim(one, assignment) is not None
        await forget_ids(broker)
        later = datetime.now(UTC) + timedelta(minutes=6)
        desk = Desk(other, "coder", clock=lambda: later)
        again = await desk.claim(work(assignment), delivery(assignment))
        assert again is not None
        assert again.epoch == 2
        epochs = [claim.epoch for claim in payloads(await said(coordinator, run), StepClaimed)]
        assert epochs == [1, 2]


async def test_a_cancelled_run_takes_no_claim_and_the_agents_chain_stays_whole(
    broker: Broker, run: str
) -> None:
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        assignment = await coordinator.append(assigned(run))
        await coordinator.append(cancelled(run))
        assert await claim(coder, assignment) is None
        assert await claim(coder, assignment, deliveries=2) is None
        other = f"{run}-other"
        attempt = await claim(coder, await coordinator.append(assigned(other)))
        assert attempt is not None
        assert kinds(await said(coordinator, run)) == ["step.assigned", "run.cancelled"]
        chain = ChainTracker()
        for event in [*await said(coordinator, run), *await said(coordinator, other)]:
            if event.event.key == coder.sender.key.public:
                chain.follow(event.event)  # raises where it does not join
        assert chain.expected(coder.sender.key.public) == 2


async def test_a_result_of_a_cancelled_run_is_not_stored(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        attempt = await claim(coder, await coordinator.append(assigned(run)))
        assert attempt is not None
        await coordinator.append(cancelled(run))
        with pytest.raises(RunEnded):
            await Desk(coder, "coder").complete(attempt, REPORT, 0.5)
        assert payloads(await said(coordinator, run), StepCompleted) == []


async def test_a_forged_cancellation_stops_nobody(broker: Broker, run: str) -> None:
    async with broker.joined("coordinator") as coordinator, broker.joined("coder") as coder:
        assignment = await coordinator.append(assigned(run))
        await forge(coordinator, cancelled(run))
        attempt = await claim(coder, assignment)
        assert attempt is not None
        await Desk(coder, "coder").complete(attempt, REPORT, 0.5)
        assert kinds(await said(coordinator, run)) == [
            "step.assigned",
            "step.claimed",
            "step.completed",
        ]
