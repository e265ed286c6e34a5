"""One attempt at a step: claimed under an epoch that nobody else has, spoken of under the claim.

The coordinator accepts what the claim with the highest epoch brings. Epochs follow the
deliveries of the queue as long as it counts them. Where it began to count anew, the claims
in the log say which epoch is next, so that no two agents work under the same one.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypedDict

import structlog

from actors.run_end import RunEnded, RunWatch
from bus.answer_receipt import Digests, Receipt
from bus.errors import LogFull, PublishConflict, SealingFailed
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog, Expected
from bus.memory_payloads import ItemReference
from bus.payload import LARGEST
from bus.payloads import (
    Answer,
    AssignmentDead,
    Recall,
    RunCancelled,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    StepPayload,
    Usage,
)
from bus.provision import DUPLICATE_WINDOW_S
from bus.subjects import run_filter, subject_for
from bus.work import Delivery

log = structlog.get_logger()

STORING_RETRY_S: Final = 1.0
"""Before what cannot be stored for a while is tried again."""
SURELY_KNOWN: Final = timedelta(seconds=DUPLICATE_WINDOW_S / 2)
"""For so long the stream still knows the id of a claim, and hands out no epoch twice. An older
assignment may have been claimed longer ago than that: the log is asked first."""

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt that is this agent's to make, unless a claim with a higher epoch follows."""

    assigned: StepAssigned
    assignment: StoredEvent
    claim: StoredEvent
    epoch: int
    deliveries: int
    begun: int
    """Of the deliveries those that were claimed, this one included: the others tried nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What an attempt asked of a model, and its receipt where the model gave an answer."""

    model: str
    usage: Usage
    receipt: Receipt | None = None
    digests: Digests | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Spent):
    """What came of an attempt that was answered."""

    answer: Answer
    recalled: tuple[ItemReference, ...] = ()
    """What of the memory was read on the way."""
    recall: Recall = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trail:
    """What the log has of an assignment: its claims, and whether the last brought a result."""

    epoch: int
    claims: int
    is_over: bool

    @property
    def is_used_up(self) -> bool:
        """Whether a claim, which an agent of ours would not have made, leaves no higher epoch."""
        return self.epoch >= LARGEST


class Place(TypedDict):
    """Which attempt an event speaks of."""

    step: str
    iteration: int
    attempt: int
    item: int


class Desk:
    """Where the agents of a role claim assignments and hand in what came of them.

    Once a run is cancelled the stream takes nothing more of it from here.
    """

    def __init__(
        self, event_log: EventLog, role: str, clock: Clock = lambda: datetime.now(UTC)
    ) -> None:
        self._log = event_log
        self._role = role
        self._clock = clock

    async def claim(self, assigned: StepAssigned, delivery: Delivery) -> Attempt | None:
        """Claim an assignment; None if it is over, its run was cancelled, or no epoch is left.

        Costs one round trip, unless the assignment was delivered or claimed before.

        Raises:
            PublishError: the claim could not be stored.
            BusUnreachable: the log could not be read.
        """
        epoch, begun = delivery.deliveries, 1
        standing = epoch > 1 or self._may_be_forgotten(delivery.assignment)
        while True:
            if standing:
                trail = await self._trail(delivery.assignment, assigned)
                if trail.is_used_up:
                    log.error("step.not_claimed", step=assigned.step, reason="no epoch is left")
                if trail.is_over or trail.is_used_up:
                    return None
                epoch = max(epoch, trail.epoch + 1)
                begun = min(delivery.deliveries, trail.claims + 1)
            spoken = self._log.sender.head
            try:
                claim = await self._store_claim(delivery.assignment, assigned, epoch)
            except RunEnded:
                log.info("step.not_claimed", step=assigned.step, reason="the run was cancelled")
                return None
            if self._is_our_last_word(claim) and self._log.sender.head != spoken:
                return Attempt(
                    assigned=assigned,
                    assignment=delivery.assignment,
                    claim=claim,
                    epoch=epoch,
                    deliveries=delivery.deliveries,
                    begun=begun,
                )
            standing = True

    async def complete(self, attempt: Attempt, report: Report, duration_s: float) -> None:
        """Store the answer of an attempt.

        Raises:
            RunEnded: the run was cancelled.
            PublishError: it could not be stored.
        """
        payload = StepCompleted(
            **place_of(attempt.assigned),
            epoch=attempt.epoch,
            answer=report.answer,
            model=report.model,
            usage=report.usage,
            duration_ms=round(duration_s * 1000),
            recalled=report.recalled,
            recall=report.recall,
            receipt=report.receipt,
            digests=report.digests,
        )
        await self.say(attempt.claim, payload, derive_id("step.completed", attempt.claim.event.id))

    async def fail(
        self,
        attempt: Attempt,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        spent: Spent | None = None,
    ) -> None:
        """Store that an attempt ended without an answer, and why.

        Raises:
            RunEnded: the run was cancelled.
            PublishError: it could not be stored.
        """
        log.warning("step.failed", step=attempt.assigned.step, code=code)
        payload = StepFailed(
            **place_of(attempt.assigned),
            epoch=attempt.epoch,
            code=code[:64],
            message=message[:2_000],
            retryable=retryable,
            model=spent.model[:200] if spent else "",
            usage=spent.usage if spent else None,
            receipt=spent.receipt if spent else None,
            digests=spent.digests if spent else None,
        )
        await self.say(attempt.claim, payload, derive_id("step.failed", attempt.claim.event.id))

    async def give_up(self, attempt: Attempt, reason: str) -> None:
        """Store that nobody brings this assignment to an end, and end the attempt.

        The dead letter comes first: were the agent to die in between, the next one would
        say the same.
        """
        payload = AssignmentDead(
            **place_of(attempt.assigned),
            epoch=attempt.epoch,
            deliveries=attempt.deliveries,
            reason=reason[:500],
        )
        await self.say(
            attempt.claim, payload, derive_id("assignment.dead", attempt.assignment.event.id)
        )
        await self.fail(attempt, "delivery_limit", reason)

    async def _store_claim(
        self, assignment: StoredEvent, assigned: StepAssigned, epoch: int
    ) -> StoredEvent:
        """The claim of that epoch: ours, or the one that stood there before."""
        name = self._log.sender.credential.name
        payload = StepClaimed(**place_of(assigned), epoch=epoch, agent=name)
        event_id = derive_id("step.claimed", assignment.event.id, str(epoch))
        return await self.say(assignment, payload, event_id)

    def _is_our_last_word(self, claim: StoredEvent) -> bool:
        """Whether what stands in the log is the last that we said, not an earlier claim."""
        return claim.event.digest.hex() == self._log.sender.head.digest

    def _may_be_forgotten(self, assignment: StoredEvent) -> bool:
        return self._clock() - assignment.stored_at > SURELY_KNOWN

    async def _trail(self, assignment: StoredEvent, assigned: StepAssigned) -> _Trail:
        """Follow what the role said of an assignment, in the order of the log.

        A result counts as the coordinator counts it: if it came of the claim that was the
        last one then.
        """
        said = f"{run_filter(assignment.event.run)[:-1]}step.*.{self._role}"
        position, epoch, claims, claim_id = assignment.stream_sequence, 0, 0, None
        while received := await self._log.next_on(said, after=position):
            position = received.stream_sequence
            if not isinstance(received, StoredEvent):
                continue
            event, payload = received.event, received.payload()
            if isinstance(payload, StepClaimed):
                claims += event.cause == assignment.event.id
                if event.cause == assignment.event.id and payload.epoch > epoch:
                    epoch, claim_id = payload.epoch, event.id
            elif (
                isinstance(payload, StepCompleted | StepFailed)
                and event.cause == claim_id
                and payload.epoch == epoch
                and place_of(payload) == place_of(assigned)
            ):
                return _Trail(epoch=epoch, claims=claims, is_over=True)
        return _Trail(epoch=epoch, claims=claims, is_over=False)

    async def say(self, cause: StoredEvent, payload: StepPayload, event_id: str) -> StoredEvent:
        """Store what belongs to an attempt, unless its run was cancelled.

        Waits while the log is full or the person's key is not to be had, for as long as the run
        goes on: what was paid for is not asked for again.

        Raises:
            RunEnded: it was, or ended while this waited.
            PublishError: it could not be stored.
        """
        event = cause.event
        draft = Draft(
            run=event.run,
            payload=payload,
            id=event_id,
            suffix=(self._role,),
            cause=event.id,
            on_behalf_of=event.on_behalf_of,
            sealed_for=event.sealed_for,
            traceparent=event.traceparent,
        )
        cancelled, position = subject_for(event.run, RunCancelled.TYPE), 0
        while True:
            expected = Expected(subject_filter=cancelled, stream_sequence=position)
            try:
                return await self._log.append(draft, expected=expected)
            except (SealingFailed, LogFull) as error:  # the lease is kept meanwhile
                log.warning("step.waits", run=event.run, code=error.code, reason=str(error))
                if await RunWatch(self._log, event.run, after=cause.stream_sequence).has_ended():
                    raise RunEnded from error
                await asyncio.sleep(STORING_RETRY_S)
            except PublishConflict:
                forged = await self._pass_forgeries(cancelled, after=position)
                if forged == position:
                    raise
                position = forged

    async def _pass_forgeries(self, cancelled: str, *, after: int) -> int:
        """Where the last event stands that only pretends to cancel the run.

        Raises:
            RunEnded: one of them does cancel it.
        """
        position = after
        while found := await self._log.next_on(cancelled, after=position):
            if isinstance(found, StoredEvent):
                raise RunEnded
            position = found.stream_sequence
        return position


def place_of(payload: StepPayload) -> Place:
    """Which attempt an event speaks of."""
    return Place(
        step=payload.step, iteration=payload.iteration, attempt=payload.attempt, item=payload.item
    )
