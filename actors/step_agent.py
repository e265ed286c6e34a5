"""The agent that answers a step with a model."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Self

from actors.attempt import Attempt, Report
from actors.model import Model
from actors.prompt import build_messages, parse_answer, schema_for
from actors.question import Meter, Question, ask, usage_of
from actors.recollection import recollection
from actors.roles import RoleSpec, role_spec
from actors.tool import Tool
from actors.tool_rounds import answer_with_tools
from actors.toolbox import AttemptTools, Toolbox
from actors.worker import DELIVERY_LIMIT, SpentInVain, Worker
from bus.errors import SwarmError
from bus.log import EventLog
from bus.payloads import StepAssigned
from policies.errors import BudgetExhausted


class StepAgent(Worker):
    """Serves the steps of its role with a model."""

    asks_model = True
    task: ClassVar[RoleSpec | None] = None
    """What a role that is not built in does; a built-in one looks at the step's name."""
    tools: ClassVar[tuple[Tool, ...]] = ()
    """What it may use, where the policy lets its role."""
    begins_with_a_tool: ClassVar[bool] = False
    """Whether it uses one before it answers, where it has any."""

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
        self._toolbox: Toolbox | None = None

    @classmethod
    def join(cls, event_log: EventLog, model: Model) -> Self:
        """Take a place in the swarm, with a model to ask."""
        return cls(event_log, model)

    def equip(self, toolbox: Toolbox) -> None:
        """Lay tools at hand; without, it has none."""
        self._toolbox = toolbox

    async def work(self, attempt: Attempt) -> Report:
        """Ask the model, and use the tools that it asks for.

        Raises:
            SpentInVain: it answered something else, or not all within the budget.
            BudgetExhausted: there is nothing left to spend.
            CallDenied: the role may not ask this model.
            PromptTooLarge: the step has too much to say.
            serve.errors.ModelError: it did not answer.
        """
        assigned, meter = attempt.assigned, Meter(self._model)
        spec = self.task or role_spec(assigned.role, assigned.step)
        memory = await self._recalled(spec, assigned)
        try:
            report = await self._asked(meter, spec, attempt, memory)
        except SwarmError as error:
            if meter.spent is None:
                raise
            raise SpentInVain(error, meter.spent) from error
        if meter.spent is None:
            return report
        receipt, digests = meter.spent.receipt, meter.spent.digests
        return replace(report, receipt=receipt, digests=digests)

    async def _asked(self, meter: Meter, spec: RoleSpec, attempt: Attempt, memory: str) -> Report:
        run, assigned, toolbox = attempt.assignment.event.run, attempt.assigned, self._toolbox
        if toolbox is None or not toolbox.tools:
            return await ask_model(meter, spec, run, assigned, memory)
        return await answer_with_tools(
            meter,
            spec,
            run,
            assigned,
            AttemptTools(toolbox=toolbox, desk=self._desk, attempt=attempt),
            tool_first=self.begins_with_a_tool,
            memory=memory,
        )

    async def _recalled(self, spec: RoleSpec, assigned: StepAssigned) -> str:
        """What the memory holds about the objective, for a role that is told."""
        if self.memory is None or not spec.recalls:
            return ""
        return recollection(await self.memory.recall(assigned.objective))


async def ask_model(
    model: Model, spec: RoleSpec, run: str, assigned: StepAssigned, memory: str = ""
) -> Report:
    """What a model makes of a step; nothing but the model is waited for.

    Args:
        model: is asked once.
        spec: the task.
        run: from its id and the attempt follows the seed.
        assigned: the step.
        memory: what was recalled for it.

    Raises:
        AnswerRejected: it answered something else.
        BudgetExhausted: there were not enough tokens left for the answer.
        PromptTooLarge: the step has too much to say.
        serve.errors.ModelError: it did not answer.
    """
    if assigned.tokens_left == 0:
        raise BudgetExhausted(f"role {assigned.role} has no tokens left for run {run}")
    messages = build_messages(
        spec,
        assigned.objective,
        assigned.inputs,
        each=assigned.each,
        instructions=assigned.instructions,
        answer_schema=assigned.answer_schema,
        memory=memory,
    )
    schema = schema_for(spec, assigned.answer_schema)
    question = Question(messages=messages, schema=schema, max_tokens=spec.max_tokens)
    completion = await ask(model, question, run, assigned)
    return Report(
        answer=parse_answer(spec, completion.text, assigned),
        model=completion.model,
        usage=usage_of(completion),
    )
