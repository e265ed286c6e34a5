"""The agent that answers a step with a model."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Final, Self

from pydantic import JsonValue

from actors.attempt import Attempt, Report, Spent
from actors.model import Completion, Message, Model
from actors.prompt import build_messages, parse_answer, schema_for
from actors.receipt import Question, digests_of, receipt_of
from actors.roles import RoleSpec, role_spec
from actors.worker import DELIVERY_LIMIT, SpentInVain, Worker
from bus.errors import SwarmError
from bus.log import EventLog
from bus.payloads import StepAssigned, Usage
from policies.errors import BudgetExhausted

TEMPERATURE: Final = 0.2
"""Low, because answers must fit a schema; not zero, so that another attempt differs."""


class StepAgent(Worker):
    """Serves the steps of its role with a model."""

    asks_model = True
    task: ClassVar[RoleSpec | None] = None
    """What a role that is not built in does; a built-in one looks at the step's name."""

    def __init__(
        self,
        event_log: EventLog,
        model: Model,
        *,
        delivery_limit: int = DELIVERY_LIMIT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(event_log, delivery_limit=delivery_limit, monotonic=monotonic)
        self._model = model

    @classmethod
    def join(cls, event_log: EventLog, model: Model) -> Self:
        """Take a place in the swarm, with a model to ask."""
        return cls(event_log, model)

    async def work(self, attempt: Attempt) -> Report:
        """Ask the model.

        Raises:
            SpentInVain: it answered something else, or not all within the budget.
            BudgetExhausted: there is nothing left to spend.
            CallDenied: the role may not ask this model.
            PromptTooLarge: the step has too much to say.
            serve.errors.ModelError: it did not answer.
        """
        assigned, meter = attempt.assigned, Meter(self._model)
        spec = self.task or role_spec(assigned.role, assigned.step)
        try:
            report = await ask_model(meter, spec, attempt.assignment.event.run, assigned)
        except SwarmError as error:
            if meter.spent is None:
                raise
            raise SpentInVain(error, meter.spent) from error
        if meter.spent is None:
            return report
        receipt, digests = meter.spent.receipt, meter.spent.digests
        return replace(report, receipt=receipt, digests=digests)


async def ask_model(model: Model, spec: RoleSpec, run: str, assigned: StepAssigned) -> Report:
    """What a model makes of a step; nothing but the model is waited for.

    Args:
        model: is asked once.
        spec: the task.
        run: from its id and the attempt follows the seed.
        assigned: the step.

    Raises:
        AnswerRejected: it answered something else.
        BudgetExhausted: there were not enough tokens left for the answer.
        PromptTooLarge: the step has too much to say.
        serve.errors.ModelError: it did not answer.
    """
    left = assigned.tokens_left
    if left == 0:
        raise BudgetExhausted(f"role {assigned.role} has no tokens left for run {run}")
    completion = await model.complete(
        messages=build_messages(
            spec,
            assigned.objective,
            assigned.inputs,
            each=assigned.each,
            instructions=assigned.instructions,
            answer_schema=assigned.answer_schema,
        ),
        schema=schema_for(spec, assigned.answer_schema),
        max_tokens=spec.max_tokens if left is None else min(spec.max_tokens, left),
        temperature=TEMPERATURE,
        seed=_seed(run, assigned),
        deadline_s=assigned.deadline_s,
    )
    if completion.truncated and left is not None and left < spec.max_tokens:
        raise BudgetExhausted(f"the answer did not fit into the {left} tokens left")
    return Report(
        answer=parse_answer(spec, completion.text, assigned),
        model=completion.model,
        usage=_usage(completion),
    )


class Meter:
    """Asks another model, and keeps the receipt of its answer; implements `Model`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.spent: Spent | None = None
        """What was answered last; None before."""

    async def connect(self) -> None:
        """Get ready, as `Model.connect` promises."""
        await self._model.connect()

    async def complete(
        self,
        *,
        messages: Sequence[Message],
        schema: Mapping[str, JsonValue] | None,
        max_tokens: int,
        temperature: float,
        seed: int,
        deadline_s: float,
    ) -> Completion:
        """Answer, as `Model.complete` promises."""
        completion = await self._model.complete(
            messages=messages,
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            deadline_s=deadline_s,
        )
        question = Question(
            messages=messages,
            schema=schema,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
        )
        self.spent = Spent(
            model=completion.model,
            usage=_usage(completion),
            receipt=receipt_of(question, completion),
            digests=digests_of(question, completion),
        )
        return completion


def _usage(completion: Completion) -> Usage:
    return Usage(
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
    )


def _seed(run: str, assigned: StepAssigned) -> int:
    """The model's seed: the same for the same attempt, another for the next one."""
    parts = [run, assigned.step, str(assigned.iteration), str(assigned.attempt)]
    if assigned.item:
        parts.append(str(assigned.item))
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:4], "big") >> 1
