"""The agent that answers a step with a model."""

import hashlib
import time
from collections.abc import Callable
from typing import ClassVar, Final, Self

from actors.attempt import Attempt, Report
from actors.model import Model
from actors.prompt import build_messages, parse_answer, schema_for
from actors.roles import RoleSpec, role_spec
from actors.worker import DELIVERY_LIMIT, Worker
from bus.log import EventLog
from bus.payloads import StepAssigned, Usage

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
            AnswerRejected: it answered something else.
            PromptTooLarge: the step has too much to say.
            serve.errors.ModelError: it did not answer.
        """
        assigned = attempt.assigned
        spec = self.task or role_spec(assigned.role, assigned.step)
        return await ask_model(self._model, spec, attempt.assignment.event.run, assigned)


async def ask_model(model: Model, spec: RoleSpec, run: str, assigned: StepAssigned) -> Report:
    """What a model makes of a step; nothing but the model is waited for.

    Args:
        model: is asked once.
        spec: the task.
        run: from its id and the attempt follows the seed.
        assigned: the step.

    Raises:
        AnswerRejected: it answered something else.
        PromptTooLarge: the step has too much to say.
        serve.errors.ModelError: it did not answer.
    """
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
        max_tokens=spec.max_tokens,
        temperature=TEMPERATURE,
        seed=_seed(run, assigned),
        deadline_s=assigned.deadline_s,
    )
    return Report(
        answer=parse_answer(spec, completion.text, assigned),
        model=completion.model,
        usage=Usage(
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
        ),
    )


def _seed(run: str, assigned: StepAssigned) -> int:
    """The model's seed: the same for the same attempt, another for the next one."""
    parts = [run, assigned.step, str(assigned.iteration), str(assigned.attempt)]
    if assigned.item:
        parts.append(str(assigned.item))
    return int.from_bytes(hashlib.sha256("/".join(parts).encode()).digest()[:4], "big") >> 1
