"""An agent that answers steps: the life of an assignment, whoever finds the answer.

It claims an assignment, works on it, and stores the result before it acknowledges. Killed
at any instant, it leaves an assignment that the queue hands to another; a result that was
stored already is not made again.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog
from opentelemetry import trace

from actors.agent import Agent, handles
from actors.attempt import Attempt, Desk, Report, Spent
from actors.attempt_memory import AttemptMemory
from actors.memory_client import MemoryClient
from actors.run_end import RunEnded, RunWatch, unless_ended
from bus.errors import BusError, PayloadTooLarge, SwarmError
from bus.log import EventLog
from bus.payloads import StepAssigned
from bus.work import Ack, Dead, Delivery, Retry, Verdict

log = structlog.get_logger()
tracer = trace.get_tracer("actors.agent")

DELIVERY_LIMIT: Final = 8
"""Of one assignment, how often it is begun before it is given up: it kills whoever takes it."""


SEALED_RETRY_S: Final = 5.0
"""Before an assignment is looked at again whose key is not given out."""


class SpentInVain(Exception):
    """A model answered, and nothing came of it: the error, and what was spent."""

    def __init__(self, error: SwarmError, spent: Spent) -> None:
        super().__init__(str(error))
        self.error = error
        self.spent = spent


class Worker(Agent):
    """Serves the steps of its role; subclasses say how."""

    def __init__(
        self,
        event_log: EventLog,
        *,
        delivery_limit: int = DELIVERY_LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a place in the swarm.

        Args:
            event_log: where it reads and speaks.
            delivery_limit: deliveries of one assignment that may be begun without a result;
                those that were left for later, such as of what is still sealed, are not counted.
            monotonic: seconds, for how long an answer took.
        """
        super().__init__(event_log)
        self._desk = Desk(event_log, self.role)
        self._delivery_limit = delivery_limit
        self._monotonic = monotonic
        self.memory: AttemptMemory | None = None
        """The memory, as the attempt at hand has it; None where nobody keeps one."""

    async def work(self, attempt: Attempt) -> Report:
        """Find the answer. Is cancelled at the step's deadline, and when the run ends.

        Raises:
            SwarmError: there is none; the attempt fails with the error's code.
            SpentInVain: the same, after a model was asked.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it works: {attempt}")

    @handles(StepAssigned)
    async def perform(self, assigned: StepAssigned, delivery: Delivery) -> Verdict:
        """See one assignment through.

        Returns:
            Ack once a result is in the log or none is wanted; Dead for what no agent
            should take again.
        """
        if assigned.role != self.role:
            return Dead(reason="not an assignment of this role")
        event = delivery.assignment.event
        if event.is_withheld and not event.is_erased:
            return Retry(delay_s=SEALED_RETRY_S)
        attempt = await self._desk.claim(assigned, delivery)
        if attempt is None:
            return Ack()
        try:
            if event.is_erased:
                reason = "what is to be done is erased"
                await self._desk.fail(attempt, "unreadable", reason, retryable=False)
                return Ack()
            if attempt.begun > self._delivery_limit:
                reason = f"given up: begun {self._delivery_limit} times without a result"
                await self._desk.give_up(attempt, reason)
                return Dead(reason=reason)
            with tracer.start_as_current_span(f"step {assigned.step}"):
                await self._answer(attempt)
        except RunEnded:
            run = attempt.assignment.event.run
            log.info("step.dropped", run=run, step=assigned.step, reason="the run has ended")
        return Ack()

    async def _answer(self, attempt: Attempt) -> None:
        assigned, assignment = attempt.assigned, attempt.assignment
        self.memory = self._memory_for(attempt)
        watch = RunWatch(self.log, assignment.event.run, after=assignment.stream_sequence)
        begin = self._monotonic()
        try:
            async with asyncio.timeout(assigned.deadline_s):
                report = await unless_ended(self.work(attempt), watch.has_ended)
        except TimeoutError:
            message = f"no answer within {assigned.deadline_s:g} s"
            await self._desk.fail(attempt, "deadline", message, retryable=True)
        except BusError:
            raise
        except SwarmError as error:
            await self._desk.fail(attempt, error.code, str(error), retryable=error.retryable)
        except SpentInVain as vain:
            await self._desk.fail(
                attempt,
                vain.error.code,
                str(vain),
                retryable=vain.error.retryable,
                spent=vain.spent,
            )
        else:
            await self._complete(attempt, report, self._monotonic() - begin)

    def _memory_for(self, attempt: Attempt) -> AttemptMemory | None:
        if self.memory_service is None:
            return None
        client = MemoryClient(service=self.memory_service, log=self.log)
        return AttemptMemory(client, attempt)

    async def _complete(self, attempt: Attempt, report: Report, seconds: float) -> None:
        if self.memory is not None:
            report = replace(report, recalled=self.memory.recalled, recall=self.memory.how)
        try:
            await self._desk.complete(attempt, report, seconds)
        except PayloadTooLarge as error:
            await self._desk.fail(attempt, error.code, str(error), retryable=False)
