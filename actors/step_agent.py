"""The agent that answers a step with a model.

It claims an assignment with its epoch, asks the model, and stores the result before it
acknowledges. Killed at any instant, it leaves an assignment that the queue hands to
another; a result that was stored already is not made again.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Final

import structlog
from opentelemetry import trace

from actors.agent import Agent, handles
from actors.model import Completion, Model
from actors.prompt import build_messages, parse_answer
from actors.roles import RoleSpec, role_spec
from bus.errors import SwarmError
from bus.event import Draft, StoredEvent, derive_id
from bus.log import EventLog
from bus.payloads import (
    Answer,
    StepAssigned,
    StepClaimed,
    StepCompleted,
    StepFailed,
    Usage,
)
from bus.subjects import subject_for
from bus.work import Ack, Dead, Delivery, Retry, Verdict

log = structlog.get_logger()
tracer = trace.get_tracer("actors.agent")

DELIVERY_LIMIT: Final = 8
"""Deliveries of one assignment after which it is given up: it kills whoever takes it."""
CLAIM_RETRY_S: Final = 1.0
TEMPERATURE: Final = 0.2
"""Low, because answers must fit a schema; not zero, so that another attempt differs."""


class StepAgent(Agent):
    """Serves the steps of its role."""

    def __init__(
        self,
        event_log: EventLog,
        model: Model,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(event_log)
        self._model = model
        self._monotonic = monotonic

    @handles(StepAssigned)
    async def perform(self, assigned: StepAssigned, delivery: Delivery) -> Verdict:
        """Work on one assignment.

        Returns:
            Ack once a result is in the log; Dead for what no agent should take again.
        """
        if assigned.role != self.role:
            return Dead(reason="not an assignment of this role")
        if delivery.epoch > 1 and await self._is_answered(delivery.assignment, assigned):
            return Ack()
        claim = await self._claim(delivery, assigned)
        if claim.event.key != self.log.sender.key.public:
            # Somebody else spoke under the id of our claim; with the next epoch we get our own.
            return Retry(delay_s=CLAIM_RETRY_S)
        if delivery.epoch > DELIVERY_LIMIT:
            message = f"given up after {DELIVERY_LIMIT} deliveries without a result"
            await self._fail(claim, assigned, delivery.epoch, "delivery_limit", message)
            return Dead(reason=message)
        with tracer.start_as_current_span(f"step {assigned.step}"):
            await self._answer(claim, assigned, delivery.epoch)
        return Ack()

    async def _answer(self, claim: StoredEvent, assigned: StepAssigned, epoch: int) -> None:
        spec = role_spec(assigned.role, assigned.step)
        begin = self._monotonic()
        try:
            async with asyncio.timeout(assigned.deadline_s):
                completion = await self._ask(spec, claim, assigned)
            answer = parse_answer(spec, completion.text)
        except TimeoutError:
            message = f"no answer within {assigned.deadline_s:g} s"
            await self._fail(claim, assigned, epoch, "deadline", message, retryable=True)
            return
        except SwarmError as error:
            await self._fail(
                claim, assigned, epoch, error.code, str(error), retryable=error.retryable
            )
            return
        await self._complete(claim, assigned, epoch, answer, completion, self._monotonic() - begin)

    async def _ask(self, spec: RoleSpec, claim: StoredEvent, assigned: StepAssigned) -> Completion:
        return await self._model.complete(
            messages=build_messages(spec, assigned.objective, assigned.inputs),
            schema=spec.schema,
            max_tokens=spec.max_tokens,
            temperature=TEMPERATURE,
            seed=_seed(claim.event.run, assigned),
            deadline_s=assigned.deadline_s,
        )

    async def _claim(self, delivery: Delivery, assigned: StepAssigned) -> StoredEvent:
        assignment = delivery.assignment.event
        payload = StepClaimed(
            step=assigned.step,
            iteration=assigned.iteration,
            attempt=assigned.attempt,
            epoch=delivery.epoch,
            agent=self.name,
        )
        event_id = derive_id("step.claimed", assignment.id, str(delivery.epoch))
        return await self._say(delivery.assignment, payload, event_id)

    async def _complete(
        self,
        claim: StoredEvent,
        assigned: StepAssigned,
        epoch: int,
        answer: Answer,
        completion: Completion,
        seconds: float,
    ) -> None:
        payload = StepCompleted(
            step=assigned.step,
            iteration=assigned.iteration,
            attempt=assigned.attempt,
            epoch=epoch,
            answer=answer,
            model=completion.model,
            usage=Usage(
                prompt_tokens=completion.prompt_tokens,
                completion_tokens=completion.completion_tokens,
            ),
            duration_ms=round(seconds * 1000),
        )
        await self._say(claim, payload, derive_id("step.completed", claim.event.id))

    async def _fail(
        self,
        claim: StoredEvent,
        assigned: StepAssigned,
        epoch: int,
        code: str,
        message: str,
        *,
        retryable: bool = False,
    ) -> None:
        log.warning("step.failed", step=assigned.step, code=code, agent=self.name)
        payload = StepFailed(
            step=assigned.step,
            iteration=assigned.iteration,
            attempt=assigned.attempt,
            epoch=epoch,
            code=code[:64],
            message=message[:2_000],
            retryable=retryable,
        )
        await self._say(claim, payload, derive_id("step.failed", claim.event.id))

    async def _say(
        self,
        cause: StoredEvent,
        payload: StepClaimed | StepCompleted | StepFailed,
        event_id: str,
    ) -> StoredEvent:
        return await self.log.append(
            Draft(
                run=cause.event.run,
                payload=payload,
                id=event_id,
                suffix=(self.role,),
                cause=cause.event.id,
                on_behalf_of=cause.event.on_behalf_of,
                traceparent=cause.event.traceparent,
            )
        )

    async def _is_answered(self, assignment: StoredEvent, assigned: StepAssigned) -> bool:
        """Whether the role's last result in this run is of this very attempt."""
        for model in (StepCompleted, StepFailed):
            subject = subject_for(assignment.event.run, model.TYPE, self.role)
            last = await self.log.last_on(subject)
            if not isinstance(last, StoredEvent):
                continue
            result = last.payload()
            if isinstance(result, StepCompleted | StepFailed) and _attempt(result) == _attempt(
                assigned
            ):
                return True
        return False


def _attempt(payload: StepAssigned | StepCompleted | StepFailed) -> tuple[str, int, int]:
    return payload.step, payload.iteration, payload.attempt


def _seed(run: str, assigned: StepAssigned) -> int:
    """The model's seed: the same for the same attempt, another for the next one."""
    text = "/".join((run, *(str(part) for part in _attempt(assigned))))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
